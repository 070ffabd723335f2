-- Memory scaling studies: steps of supernets of growing spaces.

CREATE TABLE scaling_points (
    run               INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    dimension         TEXT    NOT NULL,                                -- what grows
    options           INTEGER NOT NULL CHECK (options >= 1),           -- that a block has at most
    recompute         TEXT    NOT NULL CHECK (recompute IN ('none', 'block')),
    repeat            INTEGER NOT NULL CHECK (repeat >= 0),            -- a process each
    batch             INTEGER NOT NULL CHECK (batch >= 1),             -- images of a step
    log10_candidates  REAL    NOT NULL,                                -- networks of the space
    predicted_bytes   INTEGER NOT NULL CHECK (predicted_bytes >= 0),   -- the memory model's peak
    -- All of these are NULL where the step was only predicted. Seconds are
    -- medians of a process' steps; bytes are peaks above the process before the supernet.
    step_seconds      REAL    CHECK (step_seconds >= 0),
    forward_seconds   REAL    CHECK (forward_seconds >= 0),
    backward_seconds  REAL    CHECK (backward_seconds >= 0),
    optimizer_seconds REAL    CHECK (optimizer_seconds >= 0),
    peak_bytes        INTEGER CHECK (peak_bytes >= 0),
    forward_bytes     INTEGER CHECK (forward_bytes >= 0),              -- peak of that part
    backward_bytes    INTEGER CHECK (backward_bytes >= 0),
    optimizer_bytes   INTEGER CHECK (optimizer_bytes >= 0),
    weight_bytes      INTEGER CHECK (weight_bytes >= 0),               -- whose the peak is
    velocity_bytes    INTEGER CHECK (velocity_bytes >= 0),
    activation_bytes  INTEGER CHECK (activation_bytes >= 0),
    gradient_bytes    INTEGER CHECK (gradient_bytes >= 0),
    scratch_bytes     INTEGER CHECK (scratch_bytes >= 0),
    resident_bytes    INTEGER CHECK (resident_bytes >= 0),             -- also NULL where unknown
    PRIMARY KEY (run, attempt, dimension, options, recompute, repeat),
    FOREIGN KEY (run, attempt) REFERENCES attempts (run, number),
    CHECK ((step_seconds IS NULL) = (peak_bytes IS NULL))
) STRICT, WITHOUT ROWID;
