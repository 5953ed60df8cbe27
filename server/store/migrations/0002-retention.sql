-- The log's life: snapshots and what they replaced, objects, expiry, deletes.
--
-- Blobs that an older version took with a TTL or with deletes in their headers,
-- and did nothing about, stay until a snapshot replaces them: late, never early.

-- The clock, in milliseconds since the Unix epoch, when the age was last written:
-- what a start adds to the age is bounded by it.
ALTER TABLE relay ADD COLUMN clock_ms INTEGER NOT NULL DEFAULT 0;
-- Keys never come back: what is left of a dropped object lies under its key.
ALTER TABLE relay ADD COLUMN last_snapshot_key INTEGER NOT NULL DEFAULT 0;
ALTER TABLE relay ADD COLUMN last_object_key INTEGER NOT NULL DEFAULT 0;

-- Up to where the effective snapshot replaces the log, up to where bodies went
-- for it, and the age at which it became effective; before the first, the age at
-- the founding. `floor` is up to where headers went.
ALTER TABLE groups ADD COLUMN replaced_through INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN trimmed_through INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN snapshot_age_s INTEGER NOT NULL DEFAULT 0;
-- Snapshots and control blobs count beside `bytes`, each towards a bound of its own.
ALTER TABLE groups ADD COLUMN snapshot_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN control_bytes INTEGER NOT NULL DEFAULT 0;

UPDATE groups SET snapshot_age_s = (SELECT age_s FROM relay),
  control_bytes = (SELECT coalesce(sum(length(bytes) + 96), 0) FROM control c
    WHERE c.group_key = groups.group_key);

-- The age at which a device was last connected: who was away too long holds nothing back.
ALTER TABLE devices ADD COLUMN seen_age_s INTEGER NOT NULL DEFAULT 0;

UPDATE devices SET seen_age_s = (SELECT age_s FROM relay);

DROP TRIGGER groups_inserted;
DROP TRIGGER groups_updated;
DROP TRIGGER groups_deleted;

CREATE TRIGGER groups_inserted AFTER INSERT ON groups BEGIN
  UPDATE relay SET groups = groups + 1, blobs = blobs + new.blobs,
    bytes = bytes + new.bytes + new.snapshot_bytes,
    last_group_key = max(last_group_key, new.group_key);
END;

CREATE TRIGGER groups_updated AFTER UPDATE OF blobs, bytes, snapshot_bytes ON groups
WHEN new.blobs <> old.blobs OR new.bytes <> old.bytes OR new.snapshot_bytes <> old.snapshot_bytes BEGIN
  UPDATE relay SET blobs = blobs + new.blobs - old.blobs,
    bytes = bytes + new.bytes - old.bytes + new.snapshot_bytes - old.snapshot_bytes;
END;

CREATE TRIGGER groups_deleted AFTER DELETE ON groups BEGIN
  UPDATE relay SET groups = groups - 1, blobs = blobs - old.blobs,
    bytes = bytes - old.bytes - old.snapshot_bytes;
END;

-- Blobs whose bodies end by time, and blobs whose deletes are still to be carried
-- out: rows beside the log and not an index of it, so that a blob with neither,
-- which is nearly every one, costs nothing.
CREATE TABLE expiries (
  expires_age_s  INTEGER NOT NULL,
  group_key      INTEGER NOT NULL,
  cursor         INTEGER NOT NULL,
  PRIMARY KEY (expires_age_s, group_key, cursor)
) STRICT, WITHOUT ROWID;

CREATE TABLE deletes (
  group_key  INTEGER NOT NULL,
  cursor     INTEGER NOT NULL,
  PRIMARY KEY (group_key, cursor)
) STRICT, WITHOUT ROWID;

-- A group has one that is effective, and one of each author that is not.
CREATE TABLE snapshots (
  snapshot_key      INTEGER PRIMARY KEY,
  group_key         INTEGER NOT NULL,
  snapshot_id       BLOB NOT NULL,
  device_key        INTEGER NOT NULL,
  replaces_through  INTEGER NOT NULL,
  stored_age_s      INTEGER NOT NULL,
  effective         INTEGER NOT NULL,
  -- The device that confirmed it, 0 where none has, and its signature.
  confirmed_by      INTEGER NOT NULL,
  confirmation      BLOB NOT NULL,
  signature         BLOB NOT NULL,
  manifest          BLOB NOT NULL
) STRICT;

CREATE INDEX snapshots_by_group ON snapshots (group_key);
CREATE INDEX snapshots_waiting ON snapshots (stored_age_s) WHERE effective = 0;

CREATE TRIGGER snapshots_inserted AFTER INSERT ON snapshots BEGIN
  UPDATE relay SET last_snapshot_key = max(last_snapshot_key, new.snapshot_key);
END;

-- part: counts as a snapshot's. passing: goes by its age, because it is not whole,
-- or is a part that no snapshot has named.
CREATE TABLE objects (
  object_key     INTEGER PRIMARY KEY,
  group_key      INTEGER NOT NULL,
  object_id      BLOB NOT NULL,
  size_bytes     INTEGER NOT NULL,
  durable_bytes  INTEGER NOT NULL,
  complete       INTEGER NOT NULL,
  part           INTEGER NOT NULL,
  passing        INTEGER NOT NULL,
  -- The age at its last range.
  stored_age_s   INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX objects_by_id ON objects (group_key, object_id);
CREATE INDEX objects_passing ON objects (stored_age_s) WHERE passing <> 0;

CREATE TRIGGER objects_inserted AFTER INSERT ON objects BEGIN
  UPDATE relay SET last_object_key = max(last_object_key, new.object_key);
END;

-- Who refers to an object: a device by its key, a snapshot by its key below zero.
CREATE TABLE object_references (
  holder      INTEGER NOT NULL,
  object_key  INTEGER NOT NULL,
  PRIMARY KEY (holder, object_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX object_references_by_object ON object_references (object_key);

-- 65,536 bytes of an object a row, the last one's rest. The key is the object's
-- times 2^20 plus the chunk's number, so the chunks of an object lie together and
-- a range is found without an index of its own.
CREATE TABLE object_chunks (
  chunk_key  INTEGER PRIMARY KEY,
  data       BLOB NOT NULL
) STRICT;

-- Objects that are gone and whose chunks still lie here, as `deleted_groups`.
CREATE TABLE dropped_objects (
  object_key  INTEGER PRIMARY KEY,
  size_bytes  INTEGER NOT NULL
) STRICT;
