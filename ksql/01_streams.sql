-- Streams over the topics of the line. A field that a message does not carry is null.

-- Finished pizzas: the last record of each pizza.
CREATE STREAM IF NOT EXISTS pizza_steps_raw (
    pizzaId INT,
    orderId INT,
    orderSize INT,
    startTimestamp BIGINT,
    endTimestamp BIGINT,
    msgDesc VARCHAR,
    sauce VARCHAR,
    baked BOOLEAN,
    cheese ARRAY<VARCHAR>,
    meat ARRAY<VARCHAR>,
    veggies ARRAY<VARCHAR>
) WITH (KAFKA_TOPIC='pizza-done', VALUE_FORMAT='JSON');

-- Orders whose processing began.
CREATE STREAM IF NOT EXISTS order_processing_stream (
    orderId INT,
    orderSize INT,
    startTimestamp BIGINT
) WITH (KAFKA_TOPIC='order-processing', VALUE_FORMAT='JSON');

-- Orders whose last pizza is done.
CREATE STREAM IF NOT EXISTS order_done_stream (
    orderId INT,
    endTimestamp BIGINT
) WITH (KAFKA_TOPIC='order-done', VALUE_FORMAT='JSON');

-- Pizzas on their way to the first machine.
CREATE STREAM IF NOT EXISTS dough_stream (
    pizzaId INT,
    orderId INT,
    startTimestamp BIGINT
) WITH (KAFKA_TOPIC='dough-machine', VALUE_FORMAT='JSON');

-- The same pizzas with their id as the record key, for the join by pizza.
CREATE STREAM IF NOT EXISTS dough_stream_rekeyed AS
SELECT
    pizzaId,
    orderId,
    startTimestamp
FROM dough_stream
PARTITION BY pizzaId
EMIT CHANGES;
