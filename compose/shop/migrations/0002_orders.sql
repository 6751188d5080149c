-- Orders. only_once is the SHA-256 of a client's Idempotency-Key: the same key can make one order and no more. An order
-- whose body was none of the shop's has no item, only its size.
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    only_once bytea UNIQUE,
    item integer REFERENCES items (id),
    quantity integer CHECK (quantity > 0),
    body_bytes integer NOT NULL CHECK (body_bytes >= 0),
    made_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((item IS NULL) = (quantity IS NULL))
);
