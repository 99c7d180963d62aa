package traefik_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// During a hundred changes of the file, no request and no stream of an unchanged token fails.
func TestTokenChangesDropNothing(t *testing.T) {
	file := tokenFile(filepath.Join(t.TempDir(), "tokens.yml"))
	stays := file.add(t, "stays", "read,write:app/")
	s := newStack(t, "KV_TOKENS_FILE="+string(file))
	events := watchWith(t, stays, "/watch")
	var stop atomic.Bool
	var asked atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}} // keeps its connection
			defer client.CloseIdleConnections()
			for !stop.Load() {
				for target, want := range map[string]int{"/get/app/k": http.StatusNotFound, fmt.Sprintf("/get/other%d", i): http.StatusForbidden} {
					request, err := http.NewRequest(http.MethodGet, "http://"+webAddress+target, nil)
					if err != nil {
						t.Error(err)
						return
					}
					request.Header = bearer(stays)
					response, err := client.Do(request)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
					if response.StatusCode != want {
						t.Errorf("%s: %s", target, response.Status)
						return
					}
					asked.Add(1)
				}
			}
		})
	}
	last := ""
	for i := range 50 {
		last = file.add(t, "passing", "read,write:")
		if i < 49 {
			file.run(t, "revoke", "passing")
		}
	}
	eventually(t, "the last change is in force", func() error {
		answer := request(t, webAddress, http.MethodGet, "/get/k", bearer(last), "")
		if answer.status != http.StatusNotFound {
			return errors.New(answer.body)
		}
		return nil
	})
	stop.Store(true)
	clients.Wait()
	request(t, webAddress, http.MethodPut, "/put/app/last", bearer(stays), `{"value":1}`).wantStatus(t, http.StatusOK)
	wantEvent(t, events, "app/last") // rather than another event or the end
	if reloads := len(s.gateway.log.lines("has changed and is in force")); asked.Load() < 100 || reloads == 0 || len(s.gateway.log.lines("cannot be used")) > 0 {
		t.Errorf("%d requests, %d reloads", asked.Load(), reloads)
	}
	t.Logf("%d requests, %d reloads", asked.Load(), len(s.gateway.log.lines("has changed and is in force")))
}
