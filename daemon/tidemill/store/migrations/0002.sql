-- Events that the code of runs emitted, as the log tells them; what else they held was told to who listened. `at` is when
-- it was told, which grows with the number; `occurred` is what the code said. `about` is the resource's id.
CREATE TABLE emitted (
    number   INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    occurred INTEGER NOT NULL,
    event    TEXT NOT NULL,
    about    TEXT
) STRICT;

CREATE INDEX emitted_of_run ON emitted (run);
