-- How sure a search was of each input resolution. The resolution that it chose is part of the
-- architecture; a run whose space has only one leaves no rows here.
CREATE TABLE final_resolutions (
    run         INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    side        INTEGER NOT NULL CHECK (side >= 1), -- pixels
    probability REAL    NOT NULL CHECK (probability >= 0),
    PRIMARY KEY (run, attempt, side),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;
