-- Processor cores that other programs kept busy while a point was measured; NULL where the system
-- does not tell, and in studies that ran before it was recorded.

ALTER TABLE scaling_points ADD COLUMN other_cores REAL CHECK (other_cores >= 0);
