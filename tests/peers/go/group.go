package main

// The membership chain and the log, verified and opened (docs/PROTOCOL.md, sections 12 and 13).

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	sealed "syncrelay/sealed"
	sync "syncrelay/sync"
)

type place struct {
	seq  uint64
	link []byte
}

type group struct {
	id      []byte
	me      *device
	count   uint64
	head    []byte
	epoch   uint64
	secrets map[uint64][]byte
	roster  map[string]*sealed.Device
	places  map[string]place
}

// Reads a chain as a whole: the newest wrap for this device opens its epoch, and each epoch's secret
// the one before it.
func (g *group) readChain(blobs [][]byte, expectedHead []byte) {
	clears := make([]*sync.ControlClear, len(blobs))
	controls := make([]*sync.ControlBlob, len(blobs))
	g.secrets = map[uint64][]byte{}
	for i, blob := range blobs {
		controls[i], clears[i] = &sync.ControlBlob{}, &sync.ControlClear{}
		must(proto.Unmarshal(blob, controls[i]))
		must(proto.Unmarshal(controls[i].Clear, clears[i]))
		for _, wrap := range clears[i].Wraps {
			if bytes.Equal(wrap.DeviceId, g.me.id()) {
				epoch := clears[i].Epoch
				g.secrets[epoch] = g.me.openWrap(wrap.Sealed, g.id, epoch)
			}
		}
	}
	for i := len(clears) - 1; i >= 0; i-- {
		clear := clears[i]
		secret := g.secrets[clear.Epoch]
		check(secret != nil, "a secret for each epoch")
		if len(clear.KeyCheck) > 0 {
			expected := derive(secret, "key check", g.id, u64(clear.Epoch))
			check(bytes.Equal(expected, clear.KeyCheck), "12.2: the key check")
		}
		if len(clear.PreviousSecret) > 0 && g.secrets[clear.Epoch-1] == nil {
			key := derive(secret, "previous secret key")
			g.secrets[clear.Epoch-1] = open(key, join(g.id, u64(clear.Epoch)), clear.PreviousSecret)
		}
	}
	g.head = make([]byte, 32)
	g.roster = map[string]*sealed.Device{}
	expected := false
	for i, control := range controls {
		g.take(control, clears[i])
		g.head = hash(blobs[i])
		g.count = uint64(i) + 1
		expected = expected || bytes.Equal(g.head, expectedHead)
	}
	check(expected, "the chain holds the head that the inviting device named")
}

func (g *group) take(control *sync.ControlBlob, clear *sync.ControlClear) {
	check(bytes.Equal(clear.PreviousHead, g.head), "the chain's previous head")
	key := derive(g.secrets[clear.Epoch], "statement key")
	encoded := unpadded(open(key, join(g.id, control.Author, control.Clear), control.SealedStatement))
	statement := &sealed.Statement{}
	must(proto.Unmarshal(encoded, statement))
	if founding := statement.GetFounding(); founding != nil {
		g.roster[string(founding.Founder.DeviceId)] = founding.Founder
	}
	author := g.roster[string(control.Author)]
	check(author != nil, "the author is a member")
	verify(author.SigningKey, join(
		[]byte(labels+"control signature"), g.id, clear.PreviousHead,
		hash([]byte(labels+"control clear"), control.Clear),
		hash([]byte(labels+"control statement"), encoded),
	), control.Signature, "12.12")
	if adding := statement.GetAdding(); adding != nil {
		g.roster[string(adding.Device.DeviceId)] = adding.Device
	}
	g.epoch = clear.Epoch
}

func link(group, sender, blobId, header []byte) []byte {
	return hash([]byte(labels+"link"), group, sender, blobId, header)
}

func bodyContext(group, sender []byte, blob *sync.Blob) []byte {
	return join(group, sender, blob.BlobId, u64(blob.Epoch), blob.Header)
}

// The app's bytes of a blob that the relay shows, once it holds.
func (g *group) open(stored *sync.StoredBlob) []byte {
	blob := stored.Blob
	sender := g.roster[string(stored.Sender)]
	check(sender != nil, "13.2: the sender is a member")
	header := &sync.BlobHeader{}
	must(proto.Unmarshal(blob.Header, header))
	before, read := g.places[string(stored.Sender)]
	if !read {
		before = place{0, make([]byte, 32)}
	}
	check(header.Seq == before.seq+1, "13.1: the next seq")
	check(bytes.Equal(header.PreviousLink, before.link), "13.1: the previous link")
	own := link(g.id, stored.Sender, blob.BlobId, blob.Header)
	verify(sender.SigningKey, join([]byte(labels+"blob signature"), own), blob.Signature, "12.5")
	g.places[string(stored.Sender)] = place{header.Seq, own}

	key := derive(g.secrets[blob.Epoch], "body key")
	whole := &sealed.Padded{}
	must(proto.Unmarshal(unpadded(open(key, bodyContext(g.id, stored.Sender, blob), blob.Body)), whole))
	check(bytes.Equal(hash(whole.Content), header.EntryHash), "12.6: the entry's hash")
	entry := &sealed.Entry{}
	must(proto.Unmarshal(whole.Content, entry))
	return entry.Data
}

// This device's next blob.
func (g *group) seal(data []byte) *sync.Blob {
	me := g.me.id()
	before, written := g.places[string(me)]
	if !written {
		before = place{0, make([]byte, 32)}
	}
	var witnessed []*sealed.SenderLink
	for id, at := range g.places {
		if id != string(me) {
			witnessed = append(witnessed, &sealed.SenderLink{DeviceId: []byte(id), Seq: at.seq, Link: at.link})
		}
	}
	entry, err := proto.Marshal(&sealed.Entry{Data: data, Random: drawn(16), Witnessed: witnessed})
	must(err)
	header, err := proto.Marshal(&sync.BlobHeader{
		Seq: before.seq + 1, PreviousLink: before.link, EntryHash: hash(entry),
	})
	must(err)
	blob := &sync.Blob{BlobId: drawn(16), Header: header, Epoch: g.epoch}
	own := link(g.id, me, blob.BlobId, header)
	blob.Signature = sign(g.me, join([]byte(labels+"blob signature"), own))
	whole, err := proto.Marshal(&sealed.Padded{Content: entry})
	must(err)
	blob.Body = seal(derive(g.secrets[g.epoch], "body key"), bodyContext(g.id, me, blob), padded(whole))
	g.places[string(me)] = place{before.seq + 1, own}
	return blob
}
