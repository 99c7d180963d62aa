package access

import "strings"

// Rights is a set of rights.
type Rights uint8

// The rights. None includes another.
const (
	Read  Rights = 1 << iota // get, history, diff, keys, watch, gets and conditions of a batch
	Write                    // put, delete, revert, patch (which needs Read too), writes of a batch
	Admin                    // destroy, and for all keys: backups
)

var rightNames = []struct {
	right Rights
	name  string
}{{Read, "read"}, {Write, "write"}, {Admin, "admin"}}

// String returns the names, separated by commas, as in a rule.
func (r Rights) String() string { return strings.Join(r.names(), ",") }

func (r Rights) names() (names []string) {
	for _, known := range rightNames {
		if r&known.right != 0 {
			names = append(names, known.name)
		}
	}
	return names
}

func rightOf(name string) (Rights, bool) {
	for _, known := range rightNames {
		if known.name == name {
			return known.right, true
		}
	}
	return 0, false
}

// A Rule gives rights for all keys that begin with Prefix.
type Rule struct {
	Allow  Rights
	Prefix string // "" for all keys
}

// String returns the form that "gateway token new --rule" takes.
func (r Rule) String() string { return r.Allow.String() + ":" + r.Prefix }

// ParseRule reads rights,...:prefix, such as read,write:app/.
func ParseRule(text string) (Rule, error) {
	names, prefix, found := strings.Cut(text, ":")
	if !found {
		return Rule{}, errRuleForm
	}
	rule := Rule{Prefix: prefix}
	for name := range strings.SplitSeq(names, ",") {
		right, ok := rightOf(name)
		if !ok {
			return Rule{}, errRuleForm
		}
		rule.Allow |= right
	}
	if err := checkPrefix(prefix); err != nil {
		return Rule{}, err
	}
	return rule, nil
}
