-- The GPU that computed. Both are NULL on the CPU, and for runs that were recorded before.

ALTER TABLE environments ADD COLUMN gpu  TEXT; -- its model
ALTER TABLE environments ADD COLUMN cuda TEXT; -- versions of the driver and of the toolkit
