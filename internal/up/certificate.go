package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A certificate holds the settings of TLS.
type certificate struct {
	root              string // for relative paths
	certFile, keyFile string // as set; without both there is no TLS
	contained         bool   // Traefik runs in a container, which has only the directory traefik
	uid, gid          uint32 // of the container
}

func certificateFrom(root string, getenv func(string) string) certificate {
	return certificate{root: root, certFile: getenv("KV_TLS_CERT"), keyFile: getenv("KV_TLS_KEY")}
}

// inContainer returns c for the Traefik in docker-compose.yml.
func (c certificate) inContainer(getenv func(string) string) certificate {
	id := func(name string) uint32 {
		if n, err := strconv.ParseUint(getenv(name), 10, 32); err == nil {
			return uint32(n)
		}
		return 65532 // as in docker-compose.yml
	}
	c.contained, c.uid, c.gid = true, id("KV_UID"), id("KV_GID")
	return c
}

// check returns an error if Traefik cannot use the files. (Traefik would start anyway and
// refuse every handshake.) It prints warnings to out.
func (c certificate) check(now time.Time, out io.Writer) error {
	switch {
	case c.certFile == "" && c.keyFile == "":
		return nil
	case c.keyFile == "":
		return errors.New("KV_TLS_CERT is set, but KV_TLS_KEY, the file of its key, is not")
	case c.certFile == "":
		return errors.New("KV_TLS_KEY is set, but KV_TLS_CERT, the file of its certificate, is not")
	}
	for _, file := range [][2]string{{"KV_TLS_CERT", c.certFile}, {"KV_TLS_KEY", c.keyFile}} {
		name, path := file[0], file[1]
		info, err := os.Stat(c.path(path))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := c.checkContained(path, info); err != nil {
			return fmt.Errorf("%s: %s %w", name, path, err)
		}
		if mode := info.Mode().Perm(); name == "KV_TLS_KEY" && mode&0o004 != 0 {
			fmt.Fprintf(out, "up: the key %s is readable by all users (mode %#o); run chmod o-r on it\n", path, mode)
		}
	}
	pair, err := tls.LoadX509KeyPair(c.path(c.certFile), c.path(c.keyFile))
	if err != nil {
		return fmt.Errorf("KV_TLS_CERT=%s and KV_TLS_KEY=%s: %w", c.certFile, c.keyFile, err)
	}
	if leaf := pair.Leaf; leaf != nil && now.After(leaf.NotAfter) {
		fmt.Fprintf(out, "up: the certificate %s expired at %s; clients will not trust it\n",
			c.certFile, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (c certificate) path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.root, path)
}

// checkContained returns an error unless the file is in the container and readable by its
// user.
func (c certificate) checkContained(path string, info fs.FileInfo) error {
	if !c.contained {
		return nil
	}
	clean := filepath.Clean(path)
	if !strings.HasPrefix(clean, "traefik/") && !strings.HasPrefix(clean, "/traefik/") {
		return errors.New("is not visible in the container; put it into traefik/certs and use its path relative to this directory")
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	readers := fs.FileMode(0o004)
	switch {
	case owner.Uid == c.uid:
		readers = 0o400
	case owner.Gid == c.gid:
		readers = 0o040
	}
	if c.uid != 0 && info.Mode().Perm()&readers == 0 {
		return fmt.Errorf("is not readable by user %d of the container (KV_UID); change its owner", c.uid)
	}
	return nil
}
