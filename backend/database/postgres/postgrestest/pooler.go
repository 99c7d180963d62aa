package postgrestest

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"kvstore/internal/postgresql"
)

// Pooler starts a pgbouncer in front of a server until the test ends. It returns the URL of the database
// by way of it. The mode is that of pgbouncer: session, transaction, or statement.
func Pooler(t testing.TB, source, mode string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Fatal("pgbouncer is not installed; Debian has it as the package pgbouncer")
	}
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	through, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{settings(t, through, port, mode)}
	if os.Geteuid() == 0 { // pgbouncer refuses to run as root
		args = append(args, "--user=nobody")
	}
	cmd := exec.CommandContext(t.Context(), program, args...) //nolint:gosec // a program of the machine
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", &said)
		}
	})
	through.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", through.Host, time.Second) //nolint:noctx // it has a deadline
		if err == nil {
			_ = conn.Close() // nothing was sent
			return through.String()
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer does not listen: %v", err)
		}
	}
}

// settings writes the settings of a pgbouncer, and returns the name of the file.
func settings(t testing.TB, server *url.URL, port int, mode string) string {
	t.Helper()
	dir := Directory(t)
	users, name := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	for name, text := range map[string]string{
		users: fmt.Sprintf("%q %q\n", postgresql.Superuser, Password),
		name: fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"+
			"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = %s\npool_mode = %s\ndefault_pool_size = 50\n",
			server.Hostname(), server.Port(), port, users, mode),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil { // another user reads it
			t.Fatal(err)
		}
	}
	return name
}
