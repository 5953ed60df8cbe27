package main

// ML-KEM-768 (FIPS 203) and X-Wing over it (draft-connolly-cfrg-xwing-kem), as far as a device needs
// them that opens what is sealed to it: keys of a seed, and decapsulation. Debian's Go has neither.
// Written for a test: clear rather than fast, and not in constant time.

import (
	"bytes"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/crypto/sha3"
)

const (
	kemQ   = 3329
	kemN   = 256
	kemK   = 3
	kemEta = 2
	kemDu  = 10
	kemDv  = 4
	// An encapsulation key, and a ciphertext, in bytes.
	kemKeyBytes        = 384*kemK + 32
	kemCiphertextBytes = 32 * (kemDu*kemK + kemDv)
)

type poly [kemN]int

var zetas, gammas = func() (z [128]int, g [128]int) {
	power := func(e int) int {
		r := 1
		for i := 0; i < e; i++ {
			r = r * 17 % kemQ
		}
		return r
	}
	reversed := func(i int) int {
		r := 0
		for b := 0; b < 7; b++ {
			r |= (i >> b & 1) << (6 - b)
		}
		return r
	}
	for i := range z {
		z[i] = power(reversed(i))
		g[i] = power(2*reversed(i) + 1)
	}
	return
}()

func mod(x int) int { return (x%kemQ + kemQ) % kemQ }

// Algorithm 9.
func ntt(f poly) poly {
	i := 1
	for length := 128; length >= 2; length /= 2 {
		for start := 0; start < kemN; start += 2 * length {
			z := zetas[i]
			i++
			for j := start; j < start+length; j++ {
				t := z * f[j+length] % kemQ
				f[j+length] = mod(f[j] - t)
				f[j] = mod(f[j] + t)
			}
		}
	}
	return f
}

// Algorithm 10.
func inverseNtt(f poly) poly {
	i := 127
	for length := 2; length <= 128; length *= 2 {
		for start := 0; start < kemN; start += 2 * length {
			z := zetas[i]
			i--
			for j := start; j < start+length; j++ {
				t := f[j]
				f[j] = mod(t + f[j+length])
				f[j+length] = mod(z * (f[j+length] - t))
			}
		}
	}
	for j := range f {
		f[j] = f[j] * 3303 % kemQ
	}
	return f
}

// Algorithm 11.
func multiply(f, g poly) (h poly) {
	for i := 0; i < 128; i++ {
		a0, a1, b0, b1 := f[2*i], f[2*i+1], g[2*i], g[2*i+1]
		h[2*i] = mod(a0*b0 + a1*b1%kemQ*gammas[i])
		h[2*i+1] = mod(a0*b1 + a1*b0)
	}
	return
}

func add(f, g poly) poly {
	for i := range f {
		f[i] = mod(f[i] + g[i])
	}
	return f
}

// Algorithm 7.
func sampleNtt(seed []byte, j, i int) (a poly) {
	xof := sha3.NewShake128()
	xof.Write(seed)
	xof.Write([]byte{byte(j), byte(i)})
	var c [3]byte
	for n := 0; n < kemN; {
		xof.Read(c[:])
		d1 := int(c[0]) + 256*(int(c[1])%16)
		d2 := int(c[1])/16 + 16*int(c[2])
		if d1 < kemQ {
			a[n] = d1
			n++
		}
		if d2 < kemQ && n < kemN {
			a[n] = d2
			n++
		}
	}
	return
}

// Algorithm 8, over PRF (section 4.1).
func samplePoly(seed []byte, n byte) (f poly) {
	b := make([]byte, 64*kemEta)
	sha3.ShakeSum256(b, append(append([]byte{}, seed...), n))
	bit := func(i int) int { return int(b[i/8]>>(i%8)) & 1 }
	for i := range f {
		x, y := 0, 0
		for j := 0; j < kemEta; j++ {
			x += bit(2*i*kemEta + j)
			y += bit(2*i*kemEta + kemEta + j)
		}
		f[i] = mod(x - y)
	}
	return
}

// Algorithm 5, behind compression where d is below 12.
func encode(f poly, d int) []byte {
	out := make([]byte, 32*d)
	for i, x := range f {
		if d < 12 {
			x = (x<<d + kemQ/2) / kemQ % (1 << d)
		}
		for j := 0; j < d; j++ {
			at := i*d + j
			out[at/8] |= byte(x>>j&1) << (at % 8)
		}
	}
	return out
}

// Algorithm 6, and decompression where d is below 12.
func decode(b []byte, d int) (f poly) {
	for i := range f {
		x := 0
		for j := 0; j < d; j++ {
			at := i*d + j
			x |= int(b[at/8]>>(at%8)&1) << j
		}
		if d < 12 {
			x = (x*kemQ + 1<<(d-1)) >> d
		}
		f[i] = x % kemQ
	}
	return
}

type kemKey struct {
	s       [kemK]poly
	public  []byte
	z, hash []byte
}

// Algorithms 13 and 16.
func newKemKey(d, z []byte) *kemKey {
	g := sha3.Sum512(append(append([]byte{}, d...), kemK))
	rho, sigma := g[:32], g[32:]
	key := &kemKey{z: z}
	for i := range key.s {
		key.s[i] = ntt(samplePoly(sigma, byte(i)))
	}
	for i := 0; i < kemK; i++ {
		t := ntt(samplePoly(sigma, byte(kemK+i)))
		for j := 0; j < kemK; j++ {
			t = add(t, multiply(sampleNtt(rho, j, i), key.s[j]))
		}
		key.public = append(key.public, encode(t, 12)...)
	}
	key.public = append(key.public, rho...)
	h := sha3.Sum256(key.public)
	key.hash = h[:]
	return key
}

// Algorithm 14.
func kemEncrypt(public, message, r []byte) (c []byte) {
	rho := public[384*kemK:]
	var y [kemK]poly
	for i := range y {
		y[i] = ntt(samplePoly(r, byte(i)))
	}
	v := poly{}
	for i := 0; i < kemK; i++ {
		u := poly{}
		for j := 0; j < kemK; j++ {
			u = add(u, multiply(sampleNtt(rho, i, j), y[j]))
		}
		u = add(inverseNtt(u), samplePoly(r, byte(kemK+i)))
		c = append(c, encode(u, kemDu)...)
		v = add(v, multiply(decode(public[384*i:384*(i+1)], 12), y[i]))
	}
	v = add(inverseNtt(v), samplePoly(r, 2*kemK))
	return append(c, encode(add(v, decode(message, 1)), kemDv)...)
}

// Algorithms 15 and 18.
func (key *kemKey) decapsulate(c []byte) []byte {
	w := poly{}
	for i := 0; i < kemK; i++ {
		u := decode(c[32*kemDu*i:32*kemDu*(i+1)], kemDu)
		w = add(w, multiply(key.s[i], ntt(u)))
	}
	w = inverseNtt(w)
	for i, v := range decode(c[32*kemDu*kemK:], kemDv) {
		w[i] = mod(v - w[i])
	}
	message := encode(w, 1)
	g := sha3.Sum512(append(append([]byte{}, message...), key.hash...))
	if !bytes.Equal(kemEncrypt(key.public, message, g[32:]), c) {
		rejected := make([]byte, 32)
		sha3.ShakeSum256(rejected, append(append([]byte{}, key.z...), c...))
		return rejected
	}
	return g[:32]
}

type xWing struct {
	kem            *kemKey
	secret, public []byte
}

func newXWing(seed []byte) *xWing {
	expanded := make([]byte, 96)
	sha3.ShakeSum256(expanded, seed)
	kem := newKemKey(expanded[:32], expanded[32:64])
	public, err := curve25519.X25519(expanded[64:], curve25519.Basepoint)
	must(err)
	return &xWing{kem: kem, secret: expanded[64:], public: public}
}

func (x *xWing) publicKey() []byte { return join(x.kem.public, x.public) }

func (x *xWing) decapsulate(c []byte) []byte {
	shared, err := curve25519.X25519(x.secret, c[kemCiphertextBytes:])
	must(err)
	label := []byte(`\.//^\`)
	sum := sha3.Sum256(join(x.kem.decapsulate(c[:kemCiphertextBytes]), shared,
		c[kemCiphertextBytes:], x.public, label))
	return sum[:]
}
