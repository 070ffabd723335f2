-- What a phase executed, how many networks it evaluated, and a phase that ranks networks.
--
-- SQLite cannot change a CHECK, so the table is made anew with what it holds.

CREATE TABLE phases_with_work (
    run           INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    phase         TEXT    NOT NULL
                  CHECK (phase IN ('data', 'search', 'derive', 'rank', 'train', 'test')),
    started_at    REAL    NOT NULL,
    seconds       REAL    CHECK (seconds >= 0),
    peak_bytes    INTEGER CHECK (peak_bytes >= 0),    -- most memory allocated at once
    images        INTEGER CHECK (images >= 0),        -- processed
    -- The last two are also NULL for phases that were recorded before they were counted.
    macs          INTEGER CHECK (macs >= 0),          -- multiply-accumulates executed
    architectures INTEGER CHECK (architectures >= 0), -- networks evaluated
    PRIMARY KEY (run, attempt, phase),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number),
    CHECK ((seconds IS NULL) = (peak_bytes IS NULL) AND (seconds IS NULL) = (images IS NULL)),
    CHECK (seconds IS NOT NULL OR macs IS NULL AND architectures IS NULL)
) STRICT, WITHOUT ROWID;

INSERT INTO phases_with_work (run, attempt, phase, started_at, seconds, peak_bytes, images)
    SELECT run, attempt, phase, started_at, seconds, peak_bytes, images FROM phases;

DROP TABLE phases;

ALTER TABLE phases_with_work RENAME TO phases;
