package postgrestest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvstore/internal/postgresql"
)

// patroniPatience bounds the wait for what Patroni does.
const patroniPatience = 2 * time.Minute

// PatroniTTL is after how long Patroni replaces a leader that is gone. It is the least that it allows.
const PatroniTTL = 20 * time.Second

// A Patroni is three PostgreSQL servers under Patroni, with synchronous replication.
type Patroni struct {
	nodes []*patroniNode
}

type patroniNode struct {
	name           string
	program        string
	configuration  string // the file
	data           string // the directory
	server, status string // addresses of PostgreSQL and of Patroni's REST interface
	said           *bytes.Buffer
	cmd            *exec.Cmd
}

// StartPatroni starts etcd and the servers, and ends them with the test. It returns when one server leads and
// the others follow.
func StartPatroni(t testing.TB) *Patroni {
	t.Helper()
	patroni, err := exec.LookPath("patroni")
	if err != nil {
		t.Fatal("Patroni is not installed: apt-get install --no-install-recommends patroni etcd-server")
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("etcd is not installed: apt-get install --no-install-recommends patroni etcd-server")
	}
	programs, err := postgresql.Find(os.Getenv("KV_TEST_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	dir := Directory(t)
	own(t, dir)
	store := address(t)
	startEtcd(t, etcd, filepath.Join(dir, "etcd"), store)
	p := &Patroni{}
	for i := range 3 {
		n := &patroniNode{name: fmt.Sprintf("node%d", i+1), program: patroni, server: address(t), status: address(t), said: &bytes.Buffer{}}
		n.data, n.configuration = filepath.Join(dir, n.name), filepath.Join(dir, n.name+".yml")
		n.configure(t, string(programs), store)
		p.nodes = append(p.nodes, n)
		t.Cleanup(func() {
			n.kill()
			if t.Failed() {
				t.Logf("Patroni of %s:\n%s", n.name, n.said)
			}
		})
		n.start(t)
	}
	p.AwaitComplete(t)
	return p
}

// own makes the user of the servers the owner of a file.
func own(t testing.TB, name string) {
	t.Helper()
	id := postgresql.User()
	if id == nil {
		return
	}
	if err := os.Chown(name, int(id.Uid), int(id.Gid)); err != nil {
		t.Fatal(err)
	}
}

func address(t testing.TB) string {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func startEtcd(t testing.TB, program, dir, client string) {
	t.Helper()
	peer := "http://" + address(t)
	cmd := exec.Command(program, "--data-dir="+dir, "--listen-client-urls=http://"+client, "--advertise-client-urls=http://"+client, //nolint:gosec,noctx // the test kills it
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync")
	cmd.SysProcAttr = postgresql.ProcessAttributes()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
}

// configure writes the settings, as JSON, which is YAML too.
func (n *patroniNode) configure(t testing.TB, programs, etcd string) {
	t.Helper()
	type object = map[string]any
	text, err := json.Marshal(object{
		"scope": "kv", "name": n.name,
		"restapi": object{"listen": n.status, "connect_address": n.status},
		"etcd3":   object{"hosts": etcd},
		"bootstrap": object{
			"dcs": object{
				"ttl": PatroniTTL.Seconds(), "loop_wait": 2, "retry_timeout": 5, "synchronous_mode": true,
				"postgresql": object{"use_pg_rewind": true, "parameters": object{"max_connections": 100}},
			},
			"initdb": []any{object{"encoding": "UTF8"}, object{"locale": "C.UTF-8"}, "data-checksums"},
		},
		"postgresql": object{
			"listen": n.server, "connect_address": n.server, "data_dir": n.data, "bin_dir": programs,
			"pg_hba":     []string{"host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"},
			"parameters": object{"unix_socket_directories": ""},
			"pgpass":     n.data + ".pgpass",
			"authentication": object{
				"superuser":   object{"username": postgresql.Superuser, "password": Password},
				"replication": object{"username": "replicator", "password": Password},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.configuration, text, 0o600); err != nil {
		t.Fatal(err)
	}
	own(t, n.configuration)
}

func (n *patroniNode) start(t testing.TB) {
	t.Helper()
	n.cmd = exec.Command(n.program, n.configuration) //nolint:gosec,noctx // the test kills it
	n.cmd.Dir, n.cmd.SysProcAttr = "/", postgresql.ProcessAttributes()
	n.cmd.Stdout, n.cmd.Stderr = n.said, n.said
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill kills Patroni and its server.
func (n *patroniNode) kill() {
	_ = n.cmd.Process.Kill() // it may have ended
	text, err := os.ReadFile(filepath.Join(n.data, "postmaster.pid"))
	if first, _, found := strings.Cut(string(text), "\n"); err == nil && found {
		if pid, err := strconv.Atoi(first); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	_ = n.cmd.Wait() // it was killed
}

// URL returns how to connect to a database of whichever server leads.
func (p *Patroni) URL(database string) string {
	hosts := make([]string, 0, len(p.nodes))
	for _, n := range p.nodes {
		hosts = append(hosts, n.server)
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(postgresql.Superuser, Password), Host: strings.Join(hosts, ","),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// members returns the role of each server that runs.
func (p *Patroni) members() map[string]string {
	client := http.Client{Timeout: 2 * time.Second}
	for _, n := range p.nodes {
		response, err := client.Get("http://" + n.status + "/cluster") //nolint:noctx // it has a timeout
		if err != nil {
			continue
		}
		var answer struct {
			Members []struct{ Name, Role, State string }
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		_ = response.Body.Close() // it was read
		if err != nil {
			continue
		}
		roles := map[string]string{}
		for _, m := range answer.Members {
			if m.State == "running" || m.State == "streaming" {
				roles[m.Name] = m.Role
			}
		}
		return roles
	}
	return nil
}

func (p *Patroni) named(role string) *patroniNode {
	roles := p.members()
	for _, n := range p.nodes {
		if roles[n.name] == role {
			return n
		}
	}
	return nil
}

// AwaitComplete returns when one server leads, one is its synchronous standby, and the third one follows.
func (p *Patroni) AwaitComplete(t testing.TB) {
	t.Helper()
	p.await(t, func() bool {
		count := map[string]int{}
		for _, role := range p.members() {
			count[role]++
		}
		return count["leader"] == 1 && count["sync_standby"] == 1 && count["replica"] == 1
	})
}

func (p *Patroni) await(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patroniPatience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Patroni: %v after %s", p.members(), patroniPatience)
		}
	}
}

// Switchover makes the synchronous standby the leader, and returns when it leads.
func (p *Patroni) Switchover(t testing.TB) {
	t.Helper()
	leader, candidate := p.named("leader"), p.named("sync_standby")
	if leader == nil || candidate == nil {
		t.Fatalf("Patroni: %v", p.members())
	}
	text := fmt.Sprintf(`{"leader":%q,"candidate":%q}`, leader.name, candidate.name)
	response, err := http.Post("http://"+leader.status+"/switchover", "application/json", strings.NewReader(text)) //nolint:noctx // of the test
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // the status has told
	if response.StatusCode != http.StatusOK {
		t.Fatalf("switchover: %s", response.Status)
	}
	p.await(t, func() bool { return p.named("leader") == candidate })
}

// KillLeader kills the leader with its Patroni, and returns when another server leads. Then it starts what
// it has killed.
func (p *Patroni) KillLeader(t testing.TB) {
	t.Helper()
	leader := p.named("leader")
	if leader == nil {
		t.Fatalf("Patroni: %v", p.members())
	}
	leader.kill()
	p.await(t, func() bool { now := p.named("leader"); return now != nil && now != leader })
	leader.start(t)
}
