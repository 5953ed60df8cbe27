-- Where devices are woken that are not connected.

-- Apart from the devices, whose rows are written at every push. A row goes when its
-- device is removed or refused, when the push service says so, and with its group.
CREATE TABLE wake_ups (
  device_key  INTEGER PRIMARY KEY,
  endpoint    TEXT NOT NULL,
  p256dh      BLOB NOT NULL,
  auth        BLOB NOT NULL
) STRICT;

CREATE TRIGGER devices_deleted AFTER DELETE ON devices BEGIN
  DELETE FROM wake_ups WHERE device_key = old.device_key;
END;
