package main

import (
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, stream string) []event {
	t.Helper()
	var events []event
	err := parse(strings.NewReader(stream), "before", func(e event) bool {
		events = append(events, e)
		return len(events) < 3
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestEventsHaveTypeDataAndTheLastID(t *testing.T) {
	got := read(t, ": hello\nretry: 10\n\nevent: added\r\nid: e-1\r\ndata: a\r\ndata:b\r\n\r\ndata\n\n")
	want := []event{{"e-1", "added", "a\nb"}, {"e-1", "message", ""}}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

func TestAnIDWithoutDataIsKeptAndAHalfEventIsNone(t *testing.T) {
	got := read(t, "data: first\n\nid: e-2\n\ndata: second\n\ndata: cut off")
	want := []event{{"before", "message", "first"}, {"e-2", "message", "second"}}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

func TestWhoWantsNoMoreGetsNoMore(t *testing.T) {
	if got := read(t, strings.Repeat("data: x\n\n", 10)); len(got) != 3 {
		t.Fatalf("%d events", len(got))
	}
}
