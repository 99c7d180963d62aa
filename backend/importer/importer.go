// Package importer copies the database of the Python predecessor into one of ours.
// Every version keeps its number and its time.
package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Config describes an import.
type Config struct {
	// Source is the predecessor's file. It is never written.
	Source string
	// Database is the destination. Nothing else may write to it during the import.
	Database *database.DB
	// MaxValueBytes is the size of the largest value that is imported.
	MaxValueBytes int64
	// DryRun rolls everything back at the end.
	DryRun bool
	// Now is the time of the import. No imported version is later.
	Now time.Time
	// Logf reports progress, and what is skipped or changed and why.
	Logf func(format string, args ...any)
}

// A Summary counts what an import did.
type Summary struct {
	// Keys and Versions were imported.
	Keys, Versions int
	// AlreadyKeys were imported before.
	AlreadyKeys int
	// SkippedKeys and SkippedVersions were not imported. The versions of a skipped key
	// are not counted.
	SkippedKeys, SkippedVersions int
	// Clamped is the number of versions whose time was changed.
	Clamped int
}

// errDryRun makes the transaction roll back.
var errDryRun = errors.New("dry run")

// progressEvery is the number of versions between two progress reports.
const progressEvery = 10_000

// Run imports cfg.Source in one transaction: if it returns an error, nothing was
// imported. Importing the same file again changes nothing.
//
// Revisions follow the times of the versions, and the order of their rows where times
// are equal. Run skips and reports what it cannot keep: a key that kv.CheckKey refuses,
// that already has different versions in the database, or whose versions are not
// numbered 1, 2, 3 and so on; and a version whose value is not JSON or is too large.
// Reading a skipped version returns kv.ErrVersionGone. If it was the last one, the
// version before it becomes the latest. A time before that of the previous version
// becomes that time, and a time after Now becomes Now.
//
// Run holds about 40 bytes of memory for each version, 300 for each key, and the values of one chunk.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	src, err := openSource(ctx, cfg.Source)
	if err != nil {
		return Summary{}, fmt.Errorf("import %s: %w", cfg.Source, err)
	}
	defer src.close()
	var sum Summary
	p, err := makePlan(ctx, src, &cfg, &sum)
	if err != nil {
		return Summary{}, fmt.Errorf("import %s: %w", cfg.Source, err)
	}
	err = cfg.Database.Update(ctx, func(tx *database.Tx) error {
		if err := p.skipExisting(ctx, tx, src); err != nil {
			return err
		}
		if err := p.write(ctx, tx, src); err != nil {
			return err
		}
		if cfg.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return Summary{}, fmt.Errorf("import %s: %w", cfg.Source, err)
	}
	return sum, nil
}

// skipExisting removes the keys that the database already has from the plan.
func (p *plan) skipExisting(ctx context.Context, tx *database.Tx, src *source) error {
	names := make([]string, len(p.keys))
	for i, k := range p.keys {
		names[i] = k.name
	}
	if err := tx.Load(names...); err != nil {
		return err
	}
	for _, k := range p.keys {
		head, err := tx.Head(k.name)
		if err != nil {
			return err
		}
		if head.Version == 0 {
			continue
		}
		same, err := p.isImported(ctx, tx, src, k, head)
		if err != nil {
			return err
		}
		k.skipped = true
		if same {
			p.sum.AlreadyKeys++
			continue
		}
		p.skipKey(k.name, "it already exists with other versions")
	}
	return nil
}

// isImported reports whether the database has every version of k as the source has it.
// It may have later ones.
func (p *plan) isImported(
	ctx context.Context, tx *database.Tx, src *source, k *keyPlan, head database.Head,
) (bool, error) {
	if head.ID == 0 { // the key was erased
		return false, nil
	}
	for i := k.first; i < k.first+k.count; i++ {
		v := p.versions[i]
		if v.skipped {
			continue
		}
		entry, err := tx.Entry(k.name, int64(v.version))
		if kv.ClassOf(err) == kv.ClassRefused { // there is no such version
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if entry.Time != v.time || entry.Operation != kv.OpPut {
			return false, nil
		}
		value, err := src.value(ctx, v.id)
		if err != nil {
			return false, err
		}
		if string(value) != string(entry.Value) {
			return false, nil
		}
	}
	return true, nil
}

const (
	// chunkRows and chunkBytes bound the versions in memory at once.
	chunkRows  = 64
	chunkBytes = 8 << 20
)

// write appends the planned versions in the order of their revisions.
func (p *plan) write(ctx context.Context, tx *database.Tx, src *source) error {
	order := p.order()
	rows, bytes := 0, 0
	for _, v := range order {
		k := p.keys[v.key]
		value, err := src.value(ctx, v.id)
		if err != nil {
			return err
		}
		tx.Append(kv.Entry{Key: k.name, Value: value, Version: int64(v.version), Time: v.time, Operation: kv.OpPut})
		rows++
		if bytes += len(value); rows == chunkRows || bytes >= chunkBytes {
			if _, err := tx.Save(); err != nil {
				return err
			}
			rows, bytes = 0, 0
		}
		if p.sum.Versions++; p.sum.Versions%progressEvery == 0 {
			p.cfg.Logf("%d of %d versions", p.sum.Versions, len(order))
		}
	}
	return nil
}
