package main

// Joining by a link (docs/PROTOCOL.md, section 9, 12.15, 12.16; sealed/v1/pairing.proto).

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/flynn/noise"
	"google.golang.org/protobuf/proto"

	sealed "syncrelay/sealed"
	sync "syncrelay/sync"
)

func readLink(text string) *sealed.PairingLink {
	encoded, err := base64.RawURLEncoding.DecodeString(text[strings.Index(text, "#")+1:])
	must(err)
	link := &sealed.PairingLink{}
	must(proto.Unmarshal(encoded, link))
	check(len(link.RendezvousId) == 5 && len(link.Secret) == 32, "12.18: a link")
	return link
}

// Becomes known to the member that made the link; returns what it was admitted with.
func joinByLink(link *sealed.PairingLink, d *device, name string) *sealed.PairingAdmission {
	_, relayKey := parseAddress(link.RelayAddress)
	c, welcome, err := connect(link.RelayAddress, d, &sync.Hello{
		Versions: &sync.VersionRange{Min: 1, Max: 1},
		Client:   "the Go peer",
	})
	must(err)
	defer c.socket.Close()
	check(welcome.GetLobby() != nil, "4.1: a lobby session")

	var frames [][]byte
	received := uint32(0)
	c.told = func(envelope *sync.Envelope) {
		message := envelope.GetInviteMessage()
		if message == nil {
			return
		}
		received++
		check(message.Number == received, "9.5: in order")
		frames = append(frames, message.Data)
	}
	frame := func() *sealed.PairingFrame {
		for len(frames) == 0 {
			envelope, err := c.next()
			must(err)
			check(envelope.GetCloseInvite() == nil, "the invite goes on")
			c.told(envelope)
		}
		read := &sealed.PairingFrame{}
		must(proto.Unmarshal(frames[0], read))
		frames = frames[1:]
		return read
	}
	sent := uint32(0)
	send := func(noiseMessage []byte, means sealed.PairingMeans) {
		data, err := proto.Marshal(&sealed.PairingFrame{Means: means, Noise: noiseMessage})
		must(err)
		sent++
		c.ask(&sync.Envelope{Body: &sync.Envelope_InviteMessage{InviteMessage: &sync.InviteMessage{
			RendezvousId: link.RendezvousId, Number: sent, Data: data,
		}}})
	}

	c.ask(&sync.Envelope{Body: &sync.Envelope_JoinInvite{JoinInvite: &sync.JoinInvite{
		RendezvousId: link.RendezvousId,
	}}})
	shake, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:           suite,
		Pattern:               noise.HandshakeXX,
		Initiator:             true,
		Prologue:              join([]byte(labels+"pairing prologue"), link.RendezvousId, relayKey),
		PresharedKey:          derive(link.Secret, "pairing link psk"),
		PresharedKeyPlacement: 0,
		StaticKeypair:         d.noise,
	})
	must(err)
	one, _, _, err := shake.WriteMessage(nil, nil)
	must(err)
	send(one, sealed.PairingMeans_PAIRING_MEANS_LINK)

	payload, _, _, err := shake.ReadMessage(nil, frame().Noise)
	must(err)
	commitment := &sealed.PairingCommitment{}
	must(proto.Unmarshal(payload, commitment))
	introduction, err := proto.Marshal(&sealed.PairingIntroduction{
		SigningKey: d.signingKey(),
		SealingKey: d.sealing.publicKey(),
		Name:       name,
		Nonce:      drawn(16),
	})
	must(err)
	three, out, in, err := shake.WriteMessage(nil, introduction)
	must(err)
	send(three, 0)

	decrypted := func(into proto.Message) {
		plaintext, err := in.Decrypt(nil, nil, frame().Noise)
		must(err)
		must(proto.Unmarshal(plaintext, into))
	}
	reveal := &sealed.PairingReveal{}
	decrypted(reveal)
	check(bytes.Equal(hash(reveal.Nonce), commitment.Commitment), "12.16: what was committed to")
	admission := &sealed.PairingAdmission{}
	decrypted(admission)
	check(bytes.Equal(admission.Inviter.DeviceId, shake.PeerStatic()), "the inviting device is who speaks")
	_, key := parseAddress(admission.RelayAddress)
	check(bytes.Equal(key, relayKey), "the relay stays the same")
	receipt, err := out.Encrypt(nil, nil, nil)
	must(err)
	send(receipt, 0)
	return admission
}
