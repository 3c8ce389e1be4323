package simulator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// filter is a parsed $filter: comparisons, startswith, endswith, any, in, and,
// or, not and brackets.
type filter struct {
	match    func(object) (bool, error)
	advanced bool // needs ConsistencyLevel: eventual and $count
}

// filterParser is a recursive descent over tokens.
type filterParser struct {
	tokens   []string
	at       int
	advanced bool
}

type predicate = func(object) (bool, error)

func parseFilter(text string) (*filter, error) {
	tokens, err := filterTokens(text)
	if err != nil {
		return nil, err
	}
	p := &filterParser{tokens: tokens}
	match, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.at != len(p.tokens) {
		return nil, fmt.Errorf("syntax error at '%s'", p.peek())
	}
	return &filter{match: match, advanced: p.advanced}, nil
}

// filterTokens cuts the text into words, 'strings' with their quotes, and the
// characters ( ) , : /.
func filterTokens(text string) ([]string, error) {
	var tokens []string
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ':
			i++
		case strings.IndexByte("(),:/", c) >= 0:
			tokens = append(tokens, string(c))
			i++
		case c == '\'':
			j := i + 1
			for ; ; j++ {
				if j >= len(text) {
					return nil, errors.New("unterminated string literal")
				}
				if text[j] != '\'' {
					continue
				}
				if j+1 < len(text) && text[j+1] == '\'' {
					j++
					continue
				}
				break
			}
			tokens = append(tokens, text[i:j+1])
			i = j + 1
		default:
			j := i
			for j < len(text) && strings.IndexByte(" (),:/'", text[j]) < 0 || j < len(text) && text[j] == ':' && j > i && text[i] >= '0' && text[i] <= '9' {
				j++
			}
			tokens = append(tokens, text[i:j])
			i = j
		}
	}
	return tokens, nil
}

func (p *filterParser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return ""
}

func (p *filterParser) next() string {
	t := p.peek()
	p.at++
	return t
}

func (p *filterParser) expect(token string) error {
	if got := p.next(); got != token {
		return fmt.Errorf("'%s' expected, but found '%s'", token, got)
	}
	return nil
}

func (p *filterParser) or() (predicate, error)  { return p.join("or", p.and) }
func (p *filterParser) and() (predicate, error) { return p.join("and", p.term) }

func (p *filterParser) join(word string, part func() (predicate, error)) (predicate, error) {
	left, err := part()
	for err == nil && strings.EqualFold(p.peek(), word) {
		p.next()
		var right predicate
		if right, err = part(); err != nil {
			break
		}
		first := left
		left = func(o object) (bool, error) {
			a, err := first(o)
			if err != nil || a == (word == "or") {
				return a, err
			}
			return right(o)
		}
	}
	return left, err
}

func (p *filterParser) term() (predicate, error) {
	switch word := p.next(); word {
	case "":
		return nil, errors.New("unexpected end")
	case "(":
		inner, err := p.or()
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")")
	case "not":
		p.advanced = true
		inner, err := p.term()
		if err != nil {
			return nil, err
		}
		return func(o object) (bool, error) { ok, err := inner(o); return !ok, err }, nil
	case "startswith", "endswith":
		p.advanced = p.advanced || word == "endswith"
		return p.function(word)
	default:
		return p.comparison(word)
	}
}

// function is startswith(path,'text').
func (p *filterParser) function(name string) (predicate, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	path := p.next()
	if err := p.expect(","); err != nil {
		return nil, err
	}
	text, err := literal(p.next())
	if err != nil {
		return nil, err
	}
	return func(o object) (bool, error) {
		v, err := property(o, path)
		have, want := strings.ToLower(fmt.Sprint(v)), strings.ToLower(fmt.Sprint(text))
		if name == "endswith" {
			return v != nil && strings.HasSuffix(have, want), err
		}
		return v != nil && strings.HasPrefix(have, want), err
	}, p.expect(")")
}

// comparison is path op literal, path in (…) or path/any(x:x eq literal).
func (p *filterParser) comparison(path string) (predicate, error) {
	if p.peek() == "/" {
		p.next()
		return p.any(path)
	}
	op := strings.ToLower(p.next())
	if op == "in" {
		return p.in(path)
	}
	if !slices.Contains([]string{"eq", "ne", "gt", "ge", "lt", "le"}, op) {
		return nil, fmt.Errorf("operator '%s' is not known", op)
	}
	p.advanced = p.advanced || op == "ne"
	value, err := literal(p.next())
	if err != nil {
		return nil, err
	}
	return func(o object) (bool, error) {
		v, err := property(o, path)
		return compares(v, op, value), err
	}, nil
}

func (p *filterParser) in(path string) (predicate, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var values []any
	for {
		v, err := literal(p.next())
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		switch p.next() {
		case ",":
		case ")":
			return func(o object) (bool, error) {
				v, err := property(o, path)
				return slices.ContainsFunc(values, func(x any) bool { return compares(v, "eq", x) }), err
			}, nil
		default:
			return nil, errors.New("')' or ',' expected")
		}
	}
}

// any is the rest of tags/any(t:t eq 'x').
func (p *filterParser) any(path string) (predicate, error) {
	word := p.next()
	if word != "any" {
		return nil, fmt.Errorf("'%s/%s' can't be filtered", path, word)
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	variable := p.next()
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	if p.next() != variable {
		return nil, errors.New("the range variable is expected after ':'")
	}
	op := strings.ToLower(p.next())
	value, err := literal(p.next())
	if err != nil {
		return nil, err
	}
	return func(o object) (bool, error) {
		v, err := property(o, path)
		list, _ := v.([]string)
		return slices.ContainsFunc(list, func(x string) bool { return compares(x, op, value) }), err
	}, p.expect(")")
}

// literal reads 'text', true, false, null, a number or a date.
func literal(token string) (any, error) {
	switch {
	case token == "":
		return nil, errors.New("value expected")
	case token[0] == '\'':
		return strings.ReplaceAll(token[1:len(token)-1], "''", "'"), nil
	case token == "null":
		return nil, nil
	case token == "true":
		return true, nil
	case token == "false":
		return false, nil
	}
	return token, nil
}

func property(o object, path string) (any, error) {
	key, ok := keyOf(o, path)
	if !ok {
		return nil, fmt.Errorf("property '%s' can't be filtered", path)
	}
	return o[key], nil
}

// compares applies an operator; text is compared without case, as the
// directory does.
func compares(have any, op string, want any) bool {
	equal := have == want
	a, okA := have.(string)
	b, okB := want.(string)
	if okA && okB {
		equal = strings.EqualFold(a, b)
	}
	switch op {
	case "eq":
		return equal
	case "ne":
		return !equal
	}
	if !okA || !okB {
		return false
	}
	order := strings.Compare(strings.ToLower(a), strings.ToLower(b))
	if ta, err := time.Parse(time.RFC3339, a); err == nil {
		if tb, err := time.Parse(time.RFC3339, b); err == nil {
			order = ta.Compare(tb)
		}
	}
	switch op {
	case "gt":
		return order > 0
	case "ge":
		return order >= 0
	case "lt":
		return order < 0
	}
	return order <= 0
}
