-- Latencies, in milliseconds. What has begun and not ended has null for its end and its latency.

-- From the start of an order until its last pizza is done.
CREATE TABLE IF NOT EXISTS order_latency AS
SELECT
    p.orderId AS orderId,
    p.ORDER_SIZE AS orderSize,
    p.start_ts AS startTimestamp,
    d.end_ts AS endTimestamp,
    (d.end_ts - p.start_ts) AS latencyMs
FROM order_processing_table p
LEFT JOIN order_done_table d ON p.orderId = d.orderId
EMIT CHANGES;

-- From the dispatch of a pizza until it is packaged. Each column is named, because ksqlDB would call two of
-- them S_PIZZAID and S_ORDERID: both sides of the join have columns of these names.
CREATE TABLE IF NOT EXISTS pizza_latency AS
SELECT
    s.pizzaId AS pizzaId,
    s.orderId AS orderId,
    s.startTimestamp AS startTimestamp,
    e.endTimestamp AS endTimestamp,
    (e.endTimestamp - s.startTimestamp) AS latencyMs
FROM pizza_start_table s
LEFT JOIN pizza_end_table e ON s.pizzaId = e.pizzaId
EMIT CHANGES;
