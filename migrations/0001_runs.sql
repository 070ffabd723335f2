-- Runs, their attempts, and every number they report.
--
-- Moments are seconds since 1970, UTC; durations are seconds; memory is bytes; cost is
-- multiply-accumulates (x1) for one image. A migration that has been released never changes: the
-- program compares checksums and refuses a database made by another text. What comes later gets
-- the next number.

-- What was asked for: enough to run it again.
CREATE TABLE manifests (
    sha256           TEXT PRIMARY KEY CHECK (length(sha256) = 64), -- of text, a NUL byte, space_text
    name             TEXT NOT NULL,                                -- the experiment's
    text             TEXT NOT NULL,                                -- TOML, settings applied
    space_name       TEXT NOT NULL,
    space_text       TEXT NOT NULL,                                -- TOML
    space_candidates TEXT NOT NULL CHECK (space_candidates NOT GLOB '*[^0-9]*'), -- exact, decimal
    space_log10      REAL NOT NULL                                 -- its logarithm
) STRICT;

-- Where it ran; one row for all attempts under the same conditions.
CREATE TABLE environments (
    id           INTEGER PRIMARY KEY,
    version      TEXT    NOT NULL,                        -- of this program
    git_revision TEXT,                                    -- NULL: not built in a checkout
    git_dirty    INTEGER CHECK (git_dirty IN (0, 1)),
    rustc        TEXT    NOT NULL,
    libraries    TEXT    NOT NULL,
    host         TEXT    NOT NULL,
    os           TEXT    NOT NULL,
    cpu          TEXT    NOT NULL,
    instructions TEXT    NOT NULL,
    cores        INTEGER NOT NULL CHECK (cores >= 0),
    memory_bytes INTEGER NOT NULL CHECK (memory_bytes >= 0), -- physical; 0: unknown
    threads      INTEGER NOT NULL CHECK (threads >= 0),
    device       TEXT    NOT NULL
) STRICT;

-- One network that some search arrived at; equal networks share the row.
CREATE TABLE architectures (
    id     TEXT PRIMARY KEY,                     -- first 12 hex digits of SHA-256 of spec
    spec   TEXT    NOT NULL CHECK (json_valid(spec)),
    macs   INTEGER NOT NULL CHECK (macs >= 0),   -- for one image
    params INTEGER NOT NULL CHECK (params >= 0)  -- weights of convolutions and linear layers
) STRICT;

-- One method with one seed. Numbers are never used twice: reports name them.
CREATE TABLE runs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    manifest TEXT    NOT NULL REFERENCES manifests (sha256),
    method   TEXT    NOT NULL,
    dataset  TEXT    NOT NULL,
    seed     INTEGER NOT NULL CHECK (seed >= 0)
) STRICT;

-- One try at a run by one process.
CREATE TABLE attempts (
    run             INTEGER NOT NULL REFERENCES runs (id),
    number          INTEGER NOT NULL CHECK (number >= 1),
    environment     INTEGER NOT NULL REFERENCES environments (id),
    command         TEXT    NOT NULL,
    -- As last written by that process. A reader takes `running` for interrupted when the process
    -- is gone or has been silent, and never writes that guess.
    status          TEXT    NOT NULL CHECK (status IN ('running', 'finished', 'failed', 'interrupted')),
    error           TEXT,
    started_at      REAL    NOT NULL,
    heartbeat_at    REAL    NOT NULL,  -- last sign of life
    ended_at        REAL,
    pid             INTEGER NOT NULL,
    process_started INTEGER,           -- clock ticks since boot: tells a reused pid from the first
    process_table   TEXT,              -- boot and pid namespace: where a pid means something
    architecture    TEXT    REFERENCES architectures (id),
    PRIMARY KEY (run, number),
    CHECK ((status = 'failed') = (error IS NOT NULL)),
    CHECK ((status = 'running') = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE VIEW last_attempts AS
    SELECT * FROM attempts AS a
    WHERE number = (SELECT max(number) FROM attempts WHERE run = a.run);

-- The timed parts of an attempt; the last three are NULL until the phase ends.
CREATE TABLE phases (
    run        INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    phase      TEXT    NOT NULL CHECK (phase IN ('data', 'search', 'derive', 'train', 'test')),
    started_at REAL    NOT NULL,
    seconds    REAL    CHECK (seconds >= 0),
    peak_bytes INTEGER CHECK (peak_bytes >= 0), -- most memory allocated at once
    images     INTEGER CHECK (images >= 0),     -- training images processed
    PRIMARY KEY (run, attempt, phase),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number),
    CHECK ((seconds IS NULL) = (peak_bytes IS NULL) AND (seconds IS NULL) = (images IS NULL))
) STRICT, WITHOUT ROWID;

-- What was measured along the way. The key is also the order in which it is read.
CREATE TABLE measurements (
    run     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    metric  TEXT    NOT NULL,                      -- dotted path, as in search.loss
    step    INTEGER NOT NULL CHECK (step >= 0),    -- within the phase, from 0
    value   REAL    NOT NULL,                      -- finite
    PRIMARY KEY (run, attempt, metric, step),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;

-- The blocks that a search decided, in the order of the space.
CREATE TABLE final_choices (
    run      INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0), -- of the block in the space, from 0
    block    TEXT    NOT NULL,                       -- stage.block
    PRIMARY KEY (run, attempt, position),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;

-- How sure it was of each option.
CREATE TABLE final_probabilities (
    run         INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    choice      TEXT    NOT NULL CHECK (choice IN ('type', 'expansion', 'width')),
    option      INTEGER NOT NULL CHECK (option >= 0), -- in the order of the space, from 0
    probability REAL    NOT NULL CHECK (probability >= 0),
    PRIMARY KEY (run, attempt, position, choice, option),
    FOREIGN KEY (run, attempt, position) REFERENCES final_choices (run, attempt, position)
) STRICT, WITHOUT ROWID;

-- The single look at the test images, of finished attempts.
CREATE TABLE results (
    run            INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    test_top1      REAL    NOT NULL CHECK (test_top1 BETWEEN 0 AND 1),   -- share recognised
    test_loss      REAL    NOT NULL,                                     -- mean cross-entropy, nats
    test_images    INTEGER NOT NULL CHECK (test_images >= 0),
    weights_sha256 TEXT    NOT NULL CHECK (length(weights_sha256) = 64), -- of the final weights
    PRIMARY KEY (run, attempt),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number)
) STRICT, WITHOUT ROWID;
