package main

// One connection to a relay (docs/PROTOCOL.md, sections 2 to 4).

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"

	"github.com/flynn/noise"
	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	sync "syncrelay/sync"
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2b)

type connection struct {
	socket        *websocket.Conn
	send, receive *noise.CipherState
	waiting       []*sync.Envelope
	nextId        uint64
	// What the relay says by itself.
	told func(*sync.Envelope)
}

// An error that the relay told.
type refusal struct{ code sync.ErrorCode }

func (r refusal) Error() string { return r.code.String() }

// 2.1: where to connect, and the relay's key.
func parseAddress(text string) (string, []byte) {
	address, err := url.Parse(text)
	must(err)
	key, err := base64.RawURLEncoding.DecodeString(address.Fragment)
	must(err)
	check(len(key) == 32, "2.1: the relay's key")
	return address.Scheme + "://" + address.Host + "/v1/sync", key
}

// Connects, says hello, and returns what it was welcomed with.
func connect(address string, d *device, hello *sync.Hello) (*connection, *sync.Welcome, error) {
	where, relayKey := parseAddress(address)
	dialer := websocket.Dialer{Subprotocols: []string{"syncrelay.v1"}}
	socket, _, err := dialer.Dial(where, http.Header{})
	if err != nil {
		return nil, nil, err
	}
	shake, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   suite,
		Pattern:       noise.HandshakeXX,
		Initiator:     true,
		Prologue:      []byte("syncrelay/1"),
		StaticKeypair: d.noise,
	})
	must(err)
	one, _, _, err := shake.WriteMessage(nil, nil)
	must(err)
	must(socket.WriteMessage(websocket.BinaryMessage, one))
	_, two, err := socket.ReadMessage()
	if err != nil {
		return nil, nil, err
	}
	_, _, _, err = shake.ReadMessage(nil, two)
	must(err)
	check(bytes.Equal(shake.PeerStatic(), relayKey), "2.6: the relay's key is the address's")
	payload, err := proto.Marshal(hello)
	must(err)
	three, send, receive, err := shake.WriteMessage(nil, payload)
	must(err)
	must(socket.WriteMessage(websocket.BinaryMessage, three))
	c := &connection{socket: socket, send: send, receive: receive, told: func(*sync.Envelope) {}}
	first, err := c.next()
	if err != nil {
		socket.Close()
		return nil, nil, err
	}
	check(first.GetWelcome() != nil && first.RequestId == 0, "4.6: the first envelope welcomes")
	return c, first.GetWelcome(), nil
}

// The next envelope. An error that ends the session is a refusal (4.16).
func (c *connection) next() (*sync.Envelope, error) {
	for len(c.waiting) == 0 {
		kind, record, err := c.socket.ReadMessage()
		if err != nil {
			return nil, err
		}
		check(kind == websocket.BinaryMessage, "2.3: binary")
		must(c.record(record))
	}
	envelope := c.waiting[0]
	c.waiting = c.waiting[1:]
	if fault := envelope.GetError(); fault != nil && envelope.RequestId == 0 {
		return nil, refusal{fault.Code}
	}
	return envelope, nil
}

// 3.1, 3.2.
func (c *connection) record(record []byte) error {
	var plaintext []byte
	for len(record) > 0 {
		n := len(record)
		if n > 65535 {
			n = 65535
		}
		var err error
		if plaintext, err = c.receive.Decrypt(plaintext, nil, record[:n]); err != nil {
			return err
		}
		record = record[n:]
	}
	for len(plaintext) > 0 {
		length, n := binary.Uvarint(plaintext)
		check(n > 0 && n <= 4 && int(length) <= len(plaintext)-n, "3.2: lengths")
		envelope := &sync.Envelope{}
		must(proto.Unmarshal(plaintext[n:n+int(length)], envelope))
		c.waiting = append(c.waiting, envelope)
		plaintext = plaintext[n+int(length):]
	}
	return nil
}

// Sends a request under an id of its own, which it returns.
func (c *connection) post(envelope *sync.Envelope) uint64 {
	c.nextId++
	envelope.RequestId = c.nextId
	encoded, err := proto.Marshal(envelope)
	must(err)
	rest := join(binary.AppendUvarint(nil, uint64(len(encoded))), encoded)
	var record []byte
	for len(rest) > 0 {
		n := len(rest)
		if n > 65519 {
			n = 65519
		}
		record, err = c.send.Encrypt(record, nil, rest[:n])
		must(err)
		rest = rest[n:]
	}
	must(c.socket.WriteMessage(websocket.BinaryMessage, record))
	return c.nextId
}

// The next answer to a request; what the relay says by itself is told meanwhile.
func (c *connection) answer(id uint64) *sync.Envelope {
	for {
		envelope, err := c.next()
		must(err)
		if envelope.RequestId == id {
			if fault := envelope.GetError(); fault != nil {
				panic(refusal{fault.Code})
			}
			return envelope
		}
		if envelope.RequestId == 0 {
			c.told(envelope)
		}
	}
}

func (c *connection) ask(envelope *sync.Envelope) *sync.Envelope { return c.answer(c.post(envelope)) }
