-- When each order and each pizza began and ended: one row per id, whatever is delivered twice.

-- Size and start of each order.
CREATE TABLE IF NOT EXISTS order_processing_table AS
SELECT
    orderId,
    LATEST_BY_OFFSET(orderSize) AS ORDER_SIZE,
    MIN(startTimestamp) AS start_ts
FROM order_processing_stream
GROUP BY orderId
EMIT CHANGES;

-- End of each order.
CREATE TABLE IF NOT EXISTS order_done_table AS
SELECT
    orderId,
    MAX(endTimestamp) AS end_ts
FROM order_done_stream
GROUP BY orderId
EMIT CHANGES;

-- Start of each pizza: its dispatch to the first machine.
CREATE TABLE IF NOT EXISTS pizza_start_table AS
SELECT
    pizzaId,
    LATEST_BY_OFFSET(orderId) AS orderId,
    MIN(startTimestamp) AS startTimestamp
FROM dough_stream_rekeyed
GROUP BY pizzaId
EMIT CHANGES;

-- End of each pizza.
CREATE TABLE IF NOT EXISTS pizza_end_table AS
SELECT
    pizzaId,
    LATEST_BY_OFFSET(orderId) AS orderId,
    MAX(endTimestamp) AS endTimestamp
FROM pizza_steps_raw
GROUP BY pizzaId
EMIT CHANGES;
