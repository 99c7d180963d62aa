package database

import "kvstore/backend/kv"

// storeRow is the only row of its table.
type storeRow struct {
	ID            int64  `gorm:"primaryKey;autoIncrement:false"` // storeRowID
	UUID          string `gorm:"type:text;not null"`
	CreatedAt     int64  `gorm:"not null;autoCreateTime:false"` // Unix microseconds
	Revision      int64  `gorm:"not null"`
	TotalKeys     int64  `gorm:"not null"`
	TotalVersions int64  `gorm:"not null"`
}

// keyRow is one key and where its latest version stands.
type keyRow struct {
	ID            int64  `gorm:"primaryKey;autoIncrement:false"` // the revision of the key's first version
	Key           string `gorm:"type:text;not null;uniqueIndex:keys_key"`
	Version       int64  `gorm:"not null"` // the latest
	Revision      int64  `gorm:"not null"` // of the latest version
	Timestamp     int64  `gorm:"not null"` // of the latest version, Unix microseconds
	TotalVersions int64  `gorm:"not null"` // those that can be read
}

// versionRow is one version of a key. The value comes last, so that reading the
// small columns never follows its overflow pages.
type versionRow struct {
	Revision  int64  `gorm:"primaryKey;autoIncrement:false"`
	KeyID     int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:1"`
	Version   int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:2"`
	Timestamp int64  `gorm:"not null"` // Unix microseconds
	Value     []byte `gorm:"type:blob;not null"`
	Key       keyRow `gorm:"foreignKey:KeyID;references:ID"`
}

const storeRowID = 1

func (storeRow) TableName() string   { return "store" }
func (keyRow) TableName() string     { return "keys" }
func (versionRow) TableName() string { return "versions" }

// entryRow is a version together with its key's name.
type entryRow struct {
	Key       string
	Version   int64
	Revision  int64
	Timestamp int64
	Value     []byte
}

func (r entryRow) entry() kv.Entry {
	return kv.Entry{
		Key:      r.Key,
		Value:    r.Value,
		Version:  r.Version,
		Revision: r.Revision,
		Time:     kv.Timestamp(r.Timestamp),
	}
}
