-- A checkpoint is identified by the attempt that wrote it and its count in that attempt, as one number:
-- attempt * 2^32 + count. So no two attempts write the same one, even if one that was replaced wakes up.

-- The last checkpoint whose measurements are complete here; 0: before the first. NULL: the attempt has
-- neither recorded nor taken over anything. A run is only continued from checkpoints up to this one: later
-- ones, as after an older copy of the database was restored, do not fit its measurements.
ALTER TABLE attempts ADD COLUMN checkpoint INTEGER CHECK (checkpoint >= 0);

UPDATE attempts SET checkpoint = 0;

-- A view keeps the columns that its table had when it was made.
DROP VIEW last_attempts;
CREATE VIEW last_attempts AS
    SELECT * FROM attempts AS a
    WHERE number = (SELECT max(number) FROM attempts WHERE run = a.run);
