package kv

// An Operation is the kind of a write. History and the change feed tell it.
type Operation string

// The operations. Each makes one version.
const (
	OpPut    Operation = "put"
	OpPatch  Operation = "patch"
	OpRevert Operation = "revert"
	// OpDelete, OpExpire and OpDestroy make a tombstone: the key does not exist
	// afterwards. OpDestroy is seen by watchers alone, since it takes the key's
	// history with it.
	OpDelete  Operation = "delete"
	OpExpire  Operation = "expire"
	OpDestroy Operation = "destroy"
)

// Tombstone reports whether a version that o makes says that there is no value.
func (o Operation) Tombstone() bool { return o == OpDelete || o == OpExpire || o == OpDestroy }
