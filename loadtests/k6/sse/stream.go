package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/grafana/sobek"
	"go.k6.io/k6/js/common"
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/metrics"
)

type root struct{}

// A module of one virtual user.
type instance struct {
	vu     modules.VU
	events *metrics.Metric
}

func (root) NewModuleInstance(vu modules.VU) modules.Instance {
	events, err := vu.InitEnv().Registry.NewMetric("sse_events", metrics.Counter)
	if err != nil {
		common.Throw(vu.Runtime(), err)
	}
	return &instance{vu, events}
}

func (i *instance) Exports() modules.Exports {
	return modules.Exports{Named: map[string]any{"connect": i.connect}}
}

// A stream that is read. What it says is told to the script between its other work, one at a time; the virtual user lives
// until its streams have ended.
type stream struct {
	instance *instance
	handlers *sobek.Object
	// What runs a function between the script's other work, once; the next one is got there. Nil: the virtual user has ended.
	turn   func(func() error)
	cancel context.CancelFunc
}

// connect(url, {headers, lastEventId, onopen(status), onevent({id, type, data}), onend(why)}) answers {close()}. Where the
// status is not 200 it ends at once; why is empty when the server ended it or the script closed it.
func (i *instance) connect(url string, options *sobek.Object) *sobek.Object {
	runtime := i.vu.Runtime()
	if i.vu.State() == nil {
		common.Throw(runtime, errors.New("streams are opened by virtual users, not while the script is loaded"))
	}
	within, cancel := context.WithCancel(i.vu.Context())
	request, err := http.NewRequestWithContext(within, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		common.Throw(runtime, err)
	}
	request.Header.Set("Accept", "text/event-stream")
	var headers map[string]string
	if value := options.Get("headers"); value != nil {
		if err := runtime.ExportTo(value, &headers); err != nil {
			cancel()
			common.Throw(runtime, err)
		}
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	var id string
	if value := options.Get("lastEventId"); value != nil && !sobek.IsUndefined(value) && !sobek.IsNull(value) {
		id = value.String()
		request.Header.Set("Last-Event-ID", id)
	}
	opened := &stream{instance: i, handlers: options, turn: i.vu.RegisterCallback(), cancel: cancel}
	go opened.read(request, id)
	handle := runtime.NewObject()
	if err := handle.Set("close", func() { cancel() }); err != nil {
		common.Throw(runtime, err)
	}
	return handle
}

// read runs beside the script until the stream ends.
func (s *stream) read(request *http.Request, id string) {
	defer s.cancel()
	within := request.Context()
	// A stream that the script closed ended well.
	ended := func(err error) string {
		if err == nil || within.Err() != nil {
			return ""
		}
		return err.Error()
	}
	answer, err := (&http.Client{Transport: s.instance.vu.State().Transport}).Do(request)
	if err != nil {
		s.last(ended(err))
		return
	}
	defer answer.Body.Close()
	status := answer.StatusCode
	if !s.tell(within, "onopen", func(runtime *sobek.Runtime) sobek.Value { return runtime.ToValue(status) }) {
		s.last("")
		return
	}
	if status != http.StatusOK {
		s.last(fmt.Sprintf("status %d", status))
		return
	}
	err = parse(answer.Body, id, func(e event) bool {
		s.count()
		return s.tell(within, "onevent", func(runtime *sobek.Runtime) sobek.Value { return runtime.ToValue(e) })
	})
	s.last(ended(err))
}

// tell calls a handler and waits for it, so that a script that cannot follow slows the stream down. It answers false once
// nobody listens any more.
func (s *stream) tell(within context.Context, name string, value func(*sobek.Runtime) sobek.Value) bool {
	turn, next := s.turn, make(chan func(func() error), 1)
	s.turn = nil
	turn(func() error {
		following := s.instance.vu.RegisterCallback()
		defer func() { next <- following }()
		if within.Err() != nil {
			return nil
		}
		return s.call(name, value(s.instance.vu.Runtime()))
	})
	select {
	case s.turn = <-next:
		return within.Err() == nil
	case <-s.instance.vu.Context().Done():
		// The virtual user has ended. Should it still run the above, what was got there must not hold up its end.
		go func() { (<-next)(func() error { return nil }) }()
		return false
	}
}

// last tells how it ended; nothing comes behind it.
func (s *stream) last(why string) {
	if s.turn == nil {
		return
	}
	s.turn(func() error {
		if s.instance.vu.Context().Err() != nil {
			return nil
		}
		return s.call("onend", s.instance.vu.Runtime().ToValue(why))
	})
}

func (s *stream) call(name string, value sobek.Value) error {
	handler, is := sobek.AssertFunction(s.handlers.Get(name))
	if !is {
		return nil
	}
	_, err := handler(sobek.Undefined(), value)
	return err
}

func (s *stream) count() {
	state := s.instance.vu.State()
	metrics.PushIfNotDone(s.instance.vu.Context(), state.Samples, metrics.Sample{
		TimeSeries: metrics.TimeSeries{Metric: s.instance.events, Tags: state.Tags.GetCurrentValues().Tags},
		Time:       time.Now(),
		Value:      1,
	})
}
