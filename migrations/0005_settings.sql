-- What was validated of a manifest, as columns, and a fingerprint of the images that a run read.
--
-- The program fills these columns for earlier manifests once, when it migrates the database. They
-- stay NULL where a text cannot be read.

ALTER TABLE manifests ADD COLUMN kind TEXT CHECK (kind IN ('runs', 'memory study'));

-- What the derived network may cost: from bound * (1 - tolerance) to bound * (1 + above). All NULL
-- where there is no budget.
ALTER TABLE manifests ADD COLUMN budget_objective TEXT CHECK (budget_objective IN ('macs', 'params'));
ALTER TABLE manifests ADD COLUMN budget_bound REAL CHECK (budget_bound > 0);
ALTER TABLE manifests ADD COLUMN budget_tolerance REAL CHECK (budget_tolerance BETWEEN 0 AND 1);
ALTER TABLE manifests ADD COLUMN budget_above REAL CHECK (budget_above BETWEEN 0 AND 1);

-- Every setting by its dotted key, without seeds, names and the methods of the search. The hash
-- covers the settings and the space: equal hashes are equal settings.
ALTER TABLE manifests ADD COLUMN settings TEXT CHECK (settings IS NULL OR json_valid(settings));
ALTER TABLE manifests ADD COLUMN settings_sha256 TEXT CHECK (length(settings_sha256) = 64);

-- NULL for attempts that were recorded before there were fingerprints.
ALTER TABLE attempts ADD COLUMN train_images INTEGER CHECK (train_images >= 0);
ALTER TABLE attempts ADD COLUMN test_images INTEGER CHECK (test_images >= 0);
ALTER TABLE attempts ADD COLUMN data_sha256 TEXT CHECK (length(data_sha256) = 64);

-- A view keeps the columns that its table had when it was made.
DROP VIEW last_attempts;
CREATE VIEW last_attempts AS
    SELECT * FROM attempts AS a
    WHERE number = (SELECT max(number) FROM attempts WHERE run = a.run);
