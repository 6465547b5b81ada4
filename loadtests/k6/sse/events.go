package main

import (
	"bufio"
	"io"
	"strings"
)

// An event as a script sees it.
type event struct {
	// The last id that the stream has named so far: what to resume behind.
	ID   string `js:"id"`
	Type string `js:"type"`
	Data string `js:"data"`
}

// longest is the longest line that is read.
const longest = 1 << 20

// parse reads events until the stream ends, and calls take with each; it stops when that answers false. Lines may end
// with LF or CRLF. What has no data is no event, but its id counts, as the specification wants.
func parse(stream io.Reader, id string, take func(event) bool) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 4096), longest)
	var kind string
	var data []string
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if data != nil {
				if kind == "" {
					kind = "message"
				}
				if !take(event{ID: id, Type: kind, Data: strings.Join(data, "\n")}) {
					return nil
				}
			}
			kind, data = "", nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			data = append(data, value)
		case "event":
			kind = value
		case "id":
			if !strings.ContainsRune(value, 0) {
				id = value
			}
		}
	}
	return lines.Err()
}
