// A device in Go, as small as can be, written from docs/PROTOCOL.md and the schema alone: it joins a
// group by a pairing link, reads the membership chain, pulls and opens what is there, pushes an entry,
// and waits for another. It prints one JSON object a line.
package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"time"

	sync "syncrelay/sync"
)

func sign(d *device, message []byte) []byte { return ed25519.Sign(d.signing, message) }

func say(what string, value any) {
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{what: value}))
}

// Connects until the inviting device has added this one (9.11).
func connectAsMember(address string, d *device, groupId []byte) (*connection, *sync.GroupWelcome) {
	for {
		c, welcome, err := connect(address, d, &sync.Hello{
			Versions: &sync.VersionRange{Min: 1, Max: 1},
			GroupId:  groupId,
			Client:   "the Go peer",
		})
		if err == nil {
			return c, welcome.GetGroup()
		}
		var refused refusal
		if !errors.As(err, &refused) || refused.code != sync.ErrorCode_ERROR_CODE_NOT_A_MEMBER {
			panic(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	invite, lastEntry := readLink(os.Args[1]), os.Args[2]
	me := newDevice(drawn(32))
	admission := joinByLink(invite, me, "the Go peer")
	say("admitted", true)

	c, welcome := connectAsMember(admission.RelayAddress, me, admission.GroupId)
	say("member", welcome.Membership.Count)
	g := &group{id: admission.GroupId, me: me, places: map[string]place{}}
	var chain [][]byte
	for done := false; !done; {
		page := c.ask(&sync.Envelope{Body: &sync.Envelope_PullControl{
			PullControl: &sync.PullControl{After: uint64(len(chain))},
		}}).GetControlBlobs()
		chain = append(chain, page.ControlBlobs...)
		done = page.Done
	}
	g.readChain(chain, admission.ControlHead)
	check(g.roster[string(me.id())] != nil, "this device is on the roster")

	finished := false
	read := func(stored *sync.StoredBlob) {
		data := string(g.open(stored))
		say("opened", data)
		finished = finished || data == lastEntry
	}
	through := uint64(0)
	c.told = func(envelope *sync.Envelope) {
		deliver := envelope.GetDeliver()
		if deliver == nil {
			return
		}
		check(deliver.After == through, "6.3: dense")
		through = deliver.Through
		for _, stored := range deliver.Blobs {
			read(stored)
		}
	}
	id := c.post(&sync.Envelope{Body: &sync.Envelope_Pull{Pull: &sync.Pull{WindowBytes: 16 << 20}}})
	for done := false; !done; {
		page := c.answer(id).GetBlobs()
		check(page.After == through, "6.3: dense")
		through = page.Through
		for _, stored := range page.Blobs {
			read(stored)
		}
		done = page.Done
	}

	push := &sync.Push{Blobs: []*sync.Blob{g.seal([]byte("from Go")), g.seal(make([]byte, 100_000))}}
	ack := c.ask(&sync.Envelope{Body: &sync.Envelope_Push{Push: push}}).GetPushAck()
	say("pushed", ack.Cursors)

	for !finished {
		envelope, err := c.next()
		must(err)
		c.told(envelope)
	}
	c.ask(&sync.Envelope{Body: &sync.Envelope_Ack{Ack: &sync.Ack{Applied: through}}})
	say("done", through)
	c.socket.Close()
}
