package main

// A device's keys and the group's (docs/PROTOCOL.md, section 12).

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/flynn/noise"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/hkdf"
)

const labels = "syncrelay/1 "

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, rule string) {
	if !holds {
		panic("does not hold: " + rule)
	}
}

func join(parts ...[]byte) (all []byte) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return
}

func u64(n uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, n)
}

func drawn(n int) []byte {
	b := make([]byte, n)
	_, err := rand.Read(b)
	must(err)
	return b
}

func hash(parts ...[]byte) []byte {
	sum := blake2b.Sum256(join(parts...))
	return sum[:]
}

// HKDF-SHA-256 with an empty salt; label and context are its info.
func derive(secret []byte, label string, context ...[]byte) []byte {
	key := make([]byte, 32)
	_, err := io.ReadFull(hkdf.New(sha256.New, secret, nil, join(append([][]byte{[]byte(labels + label)}, context...)...)), key)
	must(err)
	return key
}

func seal(key, context, plaintext []byte) []byte {
	aead, err := chacha20poly1305.NewX(key)
	must(err)
	nonce := drawn(24)
	return aead.Seal(nonce, nonce, plaintext, context)
}

func open(key, context, sealed []byte) []byte {
	aead, err := chacha20poly1305.NewX(key)
	must(err)
	check(len(sealed) >= 24, "a sealed thing begins with its nonce")
	plaintext, err := aead.Open(nil, sealed[:24], sealed[24:], context)
	must(err)
	return plaintext
}

// 12.7.
func padded(content []byte) []byte {
	prefix := binary.AppendUvarint(nil, uint64(len(content)))
	length := len(prefix) + len(content)
	size := 256
	if length > 256 {
		e := log2(length)
		step := 1 << (e - (log2(e) + 1))
		size = (length + step - 1) / step * step
	}
	return append(join(prefix, content), make([]byte, size-length)...)
}

func log2(n int) (e int) {
	for n > 1 {
		n >>= 1
		e++
	}
	return
}

func unpadded(b []byte) []byte {
	length, n := binary.Uvarint(b)
	check(n > 0 && int(length) <= len(b)-n, "12.7: the length")
	for _, zero := range b[n+int(length):] {
		check(zero == 0, "12.7: zeros")
	}
	return b[n : n+int(length)]
}

// 12.1.
type device struct {
	noise   noise.DHKey
	signing ed25519.PrivateKey
	sealing *xWing
}

func newDevice(seed []byte) *device {
	secret := derive(seed, "device noise key")
	public, err := curve25519.X25519(secret, curve25519.Basepoint)
	must(err)
	return &device{
		noise:   noise.DHKey{Private: secret, Public: public},
		signing: ed25519.NewKeyFromSeed(derive(seed, "device signing key")),
		sealing: newXWing(derive(seed, "device sealing key")),
	}
}

func (d *device) id() []byte { return d.noise.Public }

func (d *device) signingKey() []byte { return d.signing.Public().(ed25519.PublicKey) }

// 12.9.
func (d *device) openWrap(sealed, group []byte, epoch uint64) []byte {
	check(len(sealed) == 1120+24+16+32, "12.9: the length of a wrap")
	context := join(group, u64(epoch), d.id())
	key := derive(d.sealing.decapsulate(sealed[:1120]), "wrap key", context)
	return open(key, context, sealed[1120:])
}

func verify(key, message, signature []byte, rule string) {
	check(len(key) == 32 && ed25519.Verify(key, message, signature), fmt.Sprintf("%s: the signature", rule))
}
