package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// TestManyUpdates: many updates of one key at once are all made.
func TestManyUpdates(t *testing.T) {
	const clients, each = 100, 5
	s := open(t, options{})
	put(t, s, "k", "0")
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				_, err := s.Update(context.Background(), store.Change{Key: "k"}, func(e kv.Entry) ([]byte, string, error) {
					n, err := strconv.Atoi(string(e.Value))
					return []byte(strconv.Itoa(n + 1)), "", err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entry, _ := get(t, s, "k"); string(entry.Value) != strconv.Itoa(clients*each) || entry.Version != clients*each+1 {
		t.Errorf("value %s at version %d, want %d", entry.Value, entry.Version, clients*each)
	}
}

// TestUpdateOvertaken: an update is made even if puts always overtake it, and the error of its
// function is returned as it is.
func TestUpdateOvertaken(t *testing.T) {
	s := open(t, options{})
	refused := errors.New("refused")
	overtaken := func(err error, value string) (kv.Written, int, error) {
		put(t, s, "k", "0")
		calls := 0
		written, err := s.Update(t.Context(), store.Change{Key: "k"}, func(e kv.Entry) ([]byte, string, error) {
			if calls++; calls <= 4 { // beside the writer
				put(t, s, "k", strconv.Itoa(calls))
				return []byte("lost"), "", nil
			}
			return append([]byte(value), e.Value...), "", err
		})
		return written, calls, err
	}
	if written, calls, err := overtaken(nil, "5"); err != nil || string(written.Entry.Value) != "54" || written.Previous != 5 || calls != 5 {
		t.Errorf("%+v after %d calls, %v", written, calls, err)
	}
	before, _ := get(t, s, "k")
	if _, _, err := overtaken(refused, ""); err != refused { //nolint:errorlint // it must be the very same
		t.Errorf("got %v, want the error of the function", err)
	}
	if _, _, err := overtaken(nil, strings.Repeat("1", 1<<20)); !errors.Is(err, kv.ErrValueTooLarge) {
		t.Errorf("a result over the limit: %v", err)
	}
	if after, _ := get(t, s, "k"); after.Version != before.Version+10 || string(after.Value) != "4" {
		t.Errorf("version %d with %s, want %d: the puts alone", after.Version, after.Value, before.Version+10)
	}
}

// TestUpdateHoldsUpNoOtherKey: while an overtaken update is computed, other keys are written, and
// a write of its key waits and comes after it.
func TestUpdateHoldsUpNoOtherKey(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", "0")
	var own sync.WaitGroup
	calls := 0
	written, err := s.Update(t.Context(), store.Change{Key: "k"}, func(kv.Entry) ([]byte, string, error) {
		if calls++; calls <= 4 {
			put(t, s, "k", "0")
			return nil, "", nil
		}
		own.Go(func() {
			if _, err := tryPut(context.Background(), s, "k", "2"); err != nil {
				t.Error(err)
			}
		})
		others := make(chan error, 3) // one of them may share the lock of k
		for i := range cap(others) {
			go func() {
				_, err := tryPut(context.Background(), s, fmt.Sprint("other", i), "1")
				others <- err
			}()
		}
		select {
		case err := <-others:
			return []byte("1"), "", err
		case <-time.After(10 * time.Second):
			return nil, "", errors.New("no other key could be written meanwhile")
		}
	})
	own.Wait()
	if err != nil || calls != 5 || written.Entry.Version != 6 {
		t.Errorf("%+v after %d calls, %v", written, calls, err)
	}
	if entry, _ := get(t, s, "k"); entry.Version != 7 || string(entry.Value) != "2" {
		t.Errorf("the write that waited: %+v", entry)
	}
}

// TestUpdateKeepsExpiry: a patch changes the value and not the end of the key.
func TestUpdateKeepsExpiry(t *testing.T) {
	s := open(t, options{})
	written, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1"), TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	same := func(e kv.Entry) ([]byte, string, error) { return e.Value, "", nil }
	kept, err := s.Update(t.Context(), store.Change{Key: "k"}, same)
	if err != nil || kept.Entry.Expires != written.Entry.Expires || kept.Entry.Expires == 0 {
		t.Errorf("%+v, %v, want the end %d", kept.Entry, err, written.Entry.Expires)
	}
	longer, err := s.Update(t.Context(), store.Change{Key: "k", TTL: 2 * time.Hour}, same)
	if err != nil || longer.Entry.Expires <= kept.Entry.Expires {
		t.Errorf("%+v, %v, want an end after %d", longer.Entry, err, kept.Entry.Expires)
	}
}
