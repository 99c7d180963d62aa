package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
)

// pairs holds the batches that were sent. Each puts a unique value to two keys.
type pairs struct {
	mu   sync.Mutex
	sent []pair
}

type pair struct {
	accounts [2]*account
	value    string
}

// batch puts value to two keys at once. An error means that there was no answer.
func (l *ledger) batch(t *testing.T, p *process, value string) error {
	first := rand.IntN(len(l.accounts))
	second := (first + 1 + rand.IntN(len(l.accounts)-1)) % len(l.accounts)
	pair := pair{[2]*account{l.accounts[first], l.accounts[second]}, value}
	l.pairs.mu.Lock()
	l.pairs.sent = append(l.pairs.sent, pair)
	l.pairs.mu.Unlock()
	put := func(a *account) string {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.sent[value] = 0
		return fmt.Sprintf(`{"op":"put","key":%q,"value":%s}`, a.key, strconv.Quote(value))
	}
	body := `{"operations":[` + put(pair.accounts[0]) + `,` + put(pair.accounts[1]) + `]}`
	floors := [2]int64{pair.accounts[0].floor(), pair.accounts[1].floor()}
	status, answer, err := p.exchange(t.Context(), "POST", "/batch", body)
	if err != nil {
		return err
	}
	var done struct{ Results []fact }
	if err := json.Unmarshal(answer, &done); status != http.StatusOK || err != nil || len(done.Results) != len(floors) {
		t.Errorf("batch: %d %s (%v)", status, answer, err)
		return nil
	}
	for i, f := range done.Results {
		if f.Version <= floors[i] {
			t.Errorf("%s: %+v in a batch, with version %d known before", pair.accounts[i].key, f, floors[i])
		}
		f.Value = value
		pair.accounts[i].note(t, f)
	}
	return nil
}

// verifyPairs checks that of every batch, both values exist or neither. The accounts must
// have been verified before.
func (l *ledger) verifyPairs(t *testing.T) {
	t.Helper()
	found := 0
	for _, pair := range l.pairs.sent {
		_, first := pair.accounts[0].sent[pair.value]
		_, second := pair.accounts[1].sent[pair.value]
		if first != second {
			t.Errorf("of the batch %q %s has its value: %t, %s: %t", pair.value, pair.accounts[0].key, first, pair.accounts[1].key, second)
		}
		if first {
			found++
		}
	}
	t.Logf("%d of %d sent batches exist", found, len(l.pairs.sent))
}
