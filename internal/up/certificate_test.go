package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	up "kvstore/internal/up"
)

// newPair writes a certificate that expires then, and its key, to dir/traefik/certs.
func newPair(t *testing.T, dir, name string, then time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: then.Add(-time.Hour), NotAfter: then}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certs := filepath.Join(dir, "traefik", "certs")
	if err := os.MkdirAll(certs, 0o750); err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(filepath.Join(certs, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckCertificate(t *testing.T) {
	root, now := t.TempDir(), time.Now()
	newPair(t, root, "good", now.Add(time.Hour))
	newPair(t, root, "old", now.Add(-time.Minute))
	newPair(t, root, "seen", now.Add(time.Hour))
	seen := filepath.Join(root, "traefik/certs/seen.key")
	if err := os.Chmod(seen, 0o604); err != nil {
		t.Fatal(err)
	}
	const good, key = "traefik/certs/good.crt", "traefik/certs/good.key"
	for _, c := range []struct {
		name, cert, key  string
		uid              string // set for containers
		refused, warning string
	}{
		{name: "none"},
		{name: "both", cert: good, key: key},
		{name: "absolute", cert: filepath.Join(root, good), key: filepath.Join(root, key)},
		{name: "no key", cert: good, refused: "KV_TLS_CERT is set, but KV_TLS_KEY, the file of its key, is not"},
		{name: "no certificate", key: key, refused: "KV_TLS_KEY is set, but KV_TLS_CERT, the file of its certificate, is not"},
		{name: "missing", cert: "traefik/certs/none.crt", key: key, refused: "traefik/certs/none.crt: no such file or directory"},
		{name: "of another", cert: good, key: "traefik/certs/old.key", refused: "private key does not match public key"},
		{name: "swapped", cert: key, key: good, refused: "KV_TLS_CERT=" + key + " and KV_TLS_KEY=" + good + ": tls: "},
		{name: "expired", cert: "traefik/certs/old.crt", key: "traefik/certs/old.key", warning: "expired at "},
		{name: "readable by all", cert: "traefik/certs/seen.crt", key: "traefik/certs/seen.key", warning: "the key traefik/certs/seen.key is readable by all users (mode 0604); run chmod o-r on it"},
		{name: "elsewhere", cert: filepath.Join(root, good), key: filepath.Join(root, key), uid: "0", refused: "is not visible in the container"},
		{name: "another user", cert: "traefik/certs/seen.crt", key: key, uid: "4000000", refused: "is not readable by user 4000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			err := up.CheckCertificate(root, env(map[string]string{"KV_TLS_CERT": c.cert, "KV_TLS_KEY": c.key, "KV_UID": c.uid, "KV_GID": c.uid}), c.uid != "", &out)
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%v, want %q", err, c.refused)
			}
			if (out.Len() == 0) != (c.warning == "") || !strings.Contains(out.String(), c.warning) {
				t.Errorf("printed %q, want %q", out.String(), c.warning)
			}
		})
	}
}
