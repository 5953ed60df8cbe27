-- Push rates of a group's own, and one page less in every store.

-- Pushes of a device a second on average, and at once; 0, both: the relay's defaults.
ALTER TABLE groups ADD COLUMN pushes_per_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN pushes_burst INTEGER NOT NULL DEFAULT 0;

-- It was read every ten minutes, of a table that has a few rows a group: looking
-- through those costs less than a page that every store has and every snapshot writes.
DROP INDEX snapshots_waiting;
