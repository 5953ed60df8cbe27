-- The first store: groups and their devices, the log, membership, invites.
--
-- Every commit is one statement on this schema, so foreign keys would only cost:
-- the relay never writes a row whose parent it has not written. STRICT, so that
-- a number that is none, or text where bytes belong, fails its commit.

-- Marks the file as a store of this relay ("SynR").
PRAGMA application_id = 0x53796e52;

-- One row: what holds for the whole relay. Counters, so that no figure is ever
-- a sum over rows; the triggers below keep them in the transaction they count.
CREATE TABLE relay (
  id               INTEGER PRIMARY KEY CHECK (id = 1),
  groups           INTEGER NOT NULL DEFAULT 0,
  blobs            INTEGER NOT NULL DEFAULT 0,
  bytes            INTEGER NOT NULL DEFAULT 0,
  -- The highest keys ever given, also to what is gone: keys never come back.
  last_group_key   INTEGER NOT NULL DEFAULT 0,
  last_device_key  INTEGER NOT NULL DEFAULT 0,
  -- Invites ever made: none, and no group, is a first start.
  invites_made     INTEGER NOT NULL DEFAULT 0,
  -- The persisted age in seconds, which retention and expiry count from.
  age_s            INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO relay (id) VALUES (1);

CREATE TABLE groups (
  group_key         INTEGER PRIMARY KEY,
  group_id          BLOB NOT NULL UNIQUE,
  log_id            BLOB NOT NULL,
  head              INTEGER NOT NULL,
  floor             INTEGER NOT NULL,
  bytes             INTEGER NOT NULL,
  blobs             INTEGER NOT NULL,
  quota_bytes       INTEGER NOT NULL,
  membership_count  INTEGER NOT NULL,
  membership_head   BLOB NOT NULL,
  epoch             INTEGER NOT NULL,
  suspended         INTEGER NOT NULL
) STRICT;

-- Groups that are gone and whose blobs and control blobs still lie here: a large
-- group is taken away piece by piece, between commits.
CREATE TABLE deleted_groups (
  group_key  INTEGER PRIMARY KEY
) STRICT;

CREATE TRIGGER groups_inserted AFTER INSERT ON groups BEGIN
  UPDATE relay SET groups = groups + 1, blobs = blobs + new.blobs, bytes = bytes + new.bytes,
    last_group_key = max(last_group_key, new.group_key);
END;

CREATE TRIGGER groups_updated AFTER UPDATE OF blobs, bytes ON groups
WHEN new.blobs <> old.blobs OR new.bytes <> old.bytes BEGIN
  UPDATE relay SET blobs = blobs + new.blobs - old.blobs, bytes = bytes + new.bytes - old.bytes;
END;

CREATE TRIGGER groups_deleted AFTER DELETE ON groups BEGIN
  UPDATE relay SET groups = groups - 1, blobs = blobs - old.blobs, bytes = bytes - old.bytes;
END;

-- A group's devices lie together: they are loaded together, and a commit that
-- several of them share touches few pages. role: 0 device, 1 paper. state:
-- 0 active, 1 removed, 2 refused.
CREATE TABLE devices (
  group_key     INTEGER NOT NULL,
  device_key    INTEGER NOT NULL,
  device_id     BLOB NOT NULL,
  role          INTEGER NOT NULL,
  state         INTEGER NOT NULL,
  last_seq      INTEGER NOT NULL,
  last_link     BLOB NOT NULL,
  last_cursor   INTEGER NOT NULL,
  applied       INTEGER NOT NULL,
  last_seen_ms  INTEGER NOT NULL,
  PRIMARY KEY (group_key, device_key)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX devices_by_id ON devices (device_id, group_key);

CREATE TRIGGER devices_inserted AFTER INSERT ON devices BEGIN
  UPDATE relay SET last_device_key = max(last_device_key, new.device_key);
END;

-- Apart from the devices: a device's row is written at every push, its witness
-- once a day, and a witness may be many times as large.
CREATE TABLE witnesses (
  device_key  INTEGER PRIMARY KEY,
  counter     INTEGER NOT NULL,
  witness     BLOB NOT NULL
) STRICT;

-- The log, in the order of arrival, whatever the group: appending touches the
-- last page only. One index, because each costs at every push.
CREATE TABLE blobs (
  group_key     INTEGER NOT NULL,
  cursor        INTEGER NOT NULL,
  device_key    INTEGER NOT NULL,
  seq           INTEGER NOT NULL,
  prior_cursor  INTEGER NOT NULL,
  epoch         INTEGER NOT NULL,
  body_state    INTEGER NOT NULL,
  stored_age_s  INTEGER NOT NULL,
  link          BLOB NOT NULL,
  blob_id       BLOB NOT NULL,
  signature     BLOB NOT NULL,
  header        BLOB NOT NULL,
  -- Last, so that everything else is read without walking a large body.
  body          BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX blobs_by_cursor ON blobs (group_key, cursor);

-- Control blobs are few and large: rows in order of arrival, found by number or head.
CREATE TABLE control (
  group_key  INTEGER NOT NULL,
  number     INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  head       BLOB NOT NULL,
  bytes      BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX control_by_number ON control (group_key, number);
CREATE UNIQUE INDEX control_by_head ON control (group_key, head);

CREATE TABLE invites (
  invite_hash        BLOB PRIMARY KEY,
  label              TEXT NOT NULL,
  quota_bytes        INTEGER NOT NULL,
  expires_age_s      INTEGER NOT NULL,
  created_ms         INTEGER NOT NULL,
  used_by_group_key  INTEGER NOT NULL,
  revoked_ms         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX invites_by_group ON invites (used_by_group_key) WHERE used_by_group_key <> 0;

CREATE TRIGGER invites_inserted AFTER INSERT ON invites BEGIN
  UPDATE relay SET invites_made = invites_made + 1;
END;
