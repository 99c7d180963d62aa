package main_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kvstore/backend/database/postgres/postgrestest"
)

// TestMoveCommand moves a store from SQLite to PostgreSQL, backs it up and restores it there while it is
// served, and moves it back. Nothing changes for clients, but by the restore, and no password is shown.
func TestMoveCommand(t *testing.T) {
	dir := t.TempDir()
	file, back, backup := "sqlite:"+filepath.Join(dir, "kv.db"), "sqlite:"+filepath.Join(dir, "back.db"), filepath.Join(dir, "backup.db")
	server, restored := postgrestest.Database(t), postgrestest.Database(t)
	try := func(url string, wants []string, args ...string) {
		t.Helper()
		out, err := runCommand(t, map[string]string{"KV_DATABASE_URL": url}, args...)
		if err != nil {
			out += err.Error()
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: it lacks %q:\n%s", args[0], want, out)
			}
		}
		if strings.Contains(out, postgrestest.Password) || strings.Contains(out, "for%20tests") {
			t.Errorf("%s shows the password:\n%s", args[0], out)
		}
	}
	serve := func(url string) (p *program, stop func()) {
		t.Helper()
		p = boot(t, map[string]string{"KV_DATABASE_URL": url})
		return p, func() {
			t.Helper()
			p.stop()
			if err := <-p.result; err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(p *program, method, path, body string, wants ...string) {
		t.Helper()
		status, got := p.request(t, method, path, body)
		for _, want := range wants {
			if status != 200 || !strings.Contains(got, want) {
				t.Errorf("%s %s: %d %s lacks %q", method, path, status, got, want)
			}
		}
	}
	p, stop := serve(file)
	expect(p, "PUT", "/put/k", `{"value":"1"}`)
	expect(p, "PUT", "/put/k", `{"value":"2"}`)
	store := func(p *program) string {
		t.Helper()
		_, body := p.request(t, "GET", "/readyz", "")
		return regexp.MustCompile(`"store":"[^"]+"`).FindString(body)
	}
	id := store(p)
	try(file, []string{"in use by another process"}, "move", server)
	stop()
	whole := "compared every row\n"
	try(file, []string{"moved " + file + " to postgres://postgres@", whole, " at revision 2: 1 keys, 2 versions", "KV_DATABASE_URL=postgres://", file + " is left as it was"}, "move", server)
	try(file, []string{"not empty", "revision 2"}, "move", server)
	try(file, []string{"the URL to move to: ", "postgres"}, "move", "mysql://u:secret@h/db")

	p, stop = serve(server)
	if got := store(p); id == "" || got != id {
		t.Errorf("after the move: %s, before: %s", got, id)
	}
	expect(p, "GET", "/get/k", "", `"value":"2","version":2`, `"revision":2`)
	expect(p, "PUT", "/put/k", `{"value":"3"}`, `"version":3`, `"revision":3`)
	try(server, []string{"backup written and checked: ", " at revision 3: 1 keys, 3 versions, "}, "backup", backup)
	try(server, []string{"exists already", "--force"}, "backup", backup)
	try(server, []string{"the database is sound", " at revision 3: 1 keys, 3 versions"}, "check", backup)
	try(server, []string{"the database is sound: postgres://postgres@", " at revision 3: 1 keys, 3 versions"}, "check")
	try(server, []string{"in use", "stop every backend"}, "move", back)
	try(server, []string{"in use", "stop every backend"}, "restore", backup)
	stop()

	try(server, []string{"not empty"}, "restore", backup)
	try(restored, []string{"restored " + backup + " to postgres://", whole, " at revision 3: 1 keys, 3 versions", "the next revision is "}, "restore", backup)
	p, stop = serve(restored)
	expect(p, "GET", "/get/k", "", `"value":"3","version":3`)
	expect(p, "GET", "/watch?since=3&for=500ms", "", `"reset":true`)
	expect(p, "PUT", "/put/k", `{"value":"4"}`, `"version":4`)
	stop()

	try(server, []string{"moved postgres://postgres@", " to " + back, whole, " at revision 3: 1 keys, 3 versions"}, "move", back)
	p, stop = serve(back)
	if got := store(p); got != id {
		t.Errorf("after the move back: %s, before: %s", got, id)
	}
	expect(p, "GET", "/get/k?version=1", "", `"value":"1"`, `"revision":1`)
	expect(p, "GET", "/watch?since=2&for=500ms", "", "id: 3\n")
	stop()
}
