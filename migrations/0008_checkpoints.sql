-- Runs that are continued from a checkpoint.

-- The number of the checkpoint after which it was measured; 0: before the first. A run that is continued
-- from checkpoint n loses what was measured after it, and the new attempt takes over the rest.
ALTER TABLE measurements ADD COLUMN checkpoint INTEGER NOT NULL DEFAULT 0 CHECK (checkpoint >= 0);

-- The checkpoint from which an attempt was continued; NULL: it started from the beginning.
ALTER TABLE attempts ADD COLUMN from_checkpoint INTEGER CHECK (from_checkpoint >= 1);

CREATE INDEX runs_of_experiment ON runs (manifest, method, seed);

-- A view keeps the columns that its table had when it was made.
DROP VIEW last_attempts;
CREATE VIEW last_attempts AS
    SELECT * FROM attempts AS a
    WHERE number = (SELECT max(number) FROM attempts WHERE run = a.run);
