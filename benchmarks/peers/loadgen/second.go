package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// second speaks HTTP/2 through the standard library's client, one connection each.
type second struct {
	transport *http.Transport
	url       string
	answer    bytes.Buffer
}

func newSecond(given options) (*second, error) {
	transport := &http.Transport{TLSClientConfig: given.tls(), ForceAttemptHTTP2: true, DisableCompression: true}
	return &second{transport: transport, url: given.target.String()}, nil
}

func (s *second) close() { s.transport.CloseIdleConnections() }

func (s *second) send(body []byte) ([]byte, error) {
	request, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
		return nil, fmt.Errorf("the server answered %s over %s", response.Status, response.Proto)
	}
	s.answer.Reset()
	_, err = io.Copy(&s.answer, response.Body)
	return s.answer.Bytes(), err
}
