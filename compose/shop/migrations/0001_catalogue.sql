-- The catalogue, with the items that a shop without a database makes up: the same numbers, names and prices.
CREATE TABLE items (
    id integer PRIMARY KEY CHECK (id > 0),
    name text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents >= 0)
);

INSERT INTO items (id, name, price_cents)
SELECT id, 'item ' || id, 100 + id * 7 % 9900
FROM generate_series(1, 1000) AS id;
