package traefik_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// 16 clients write one key 50 times each: the versions are 1 to 800, and each
// holds what the client that was told its number wrote.
func TestConcurrentWritesOfOneKey(t *testing.T) {
	newStack(t)
	const clients, writes = 16, 50
	values := make([]map[int]string, clients) // by version
	var group sync.WaitGroup
	for client := range clients {
		values[client] = map[int]string{}
		group.Go(func() {
			for i := range writes {
				value := fmt.Sprintf(`"client %d write %d"`, client, i)
				answer, err := tryRequest(webAddress, http.MethodPut, "/put/hot", nil, `{"value":`+value+`}`)
				if err != nil || answer.status != http.StatusOK {
					t.Errorf("%v, %d: %s", err, answer.status, answer.body)
					return
				}
				var written putAnswer
				if err := json.Unmarshal([]byte(answer.body), &written); err != nil {
					t.Error(err)
					return
				}
				values[client][written.Version] = value
			}
		})
	}
	group.Wait()
	var versions []int
	for _, own := range values {
		for version, value := range own {
			versions = append(versions, version)
			read := decode[getAnswer](t, get(t, fmt.Sprintf("/get/hot?version=%d", version)).wantStatus(t, http.StatusOK))
			if string(read.Value) != value {
				t.Errorf("version %d is %s, want %s", version, read.Value, value)
			}
		}
	}
	slices.Sort(versions)
	for i, version := range versions {
		if version != i+1 {
			t.Fatalf("version %d where %d should be", version, i+1)
		}
	}
	if len(versions) != clients*writes {
		t.Errorf("%d versions, want %d", len(versions), clients*writes)
	}
	if latest := decode[getAnswer](t, get(t, "/get/hot")); latest.Version != clients*writes {
		t.Errorf("the latest is %d", latest.Version)
	}
}
