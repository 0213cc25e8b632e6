package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Lengths that are none.
const (
	unknown = -1
	chunked = -2
)

// first speaks HTTP/1.1 by hand: the generator must cost less than the servers it measures.
type first struct {
	connection *tls.Conn
	reader     *bufio.Reader
	request    []byte // the head, followed by room for the body
	head       int
	answer     []byte
}

func newFirst(given options) (*first, error) {
	connection, err := tls.Dial("tcp", given.target.Host, given.tls())
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: %d\r\n"+
		"Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
		given.target.RequestURI(), given.target.Host, len(given.body))
	return &first{connection: connection, reader: bufio.NewReaderSize(connection, 1<<16), request: head, head: len(head)}, nil
}

func (f *first) close() { f.connection.Close() }

func (f *first) send(body []byte) ([]byte, error) {
	f.request = append(f.request[:f.head], body...)
	if _, err := f.connection.Write(f.request); err != nil {
		return nil, err
	}
	length, err := f.readHead()
	if err != nil {
		return nil, err
	}
	if length == chunked {
		return f.readChunks()
	}
	if cap(f.answer) < length {
		f.answer = make([]byte, length)
	}
	f.answer = f.answer[:length]
	_, err = io.ReadFull(f.reader, f.answer)
	return f.answer, err
}

// readChunks reads a body that comes in parts, each after its length.
func (f *first) readChunks() ([]byte, error) {
	f.answer = f.answer[:0]
	for {
		line, err := f.reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return nil, err
		}
		start := len(f.answer)
		f.answer = slices.Grow(f.answer, int(size)+2)[:start+int(size)+2]
		if _, err := io.ReadFull(f.reader, f.answer[start:]); err != nil {
			return nil, err
		}
		f.answer = f.answer[:start+int(size)]
		if size == 0 {
			return f.answer, nil
		}
	}
}

// readHead reads up to the empty line and returns the body's length, or chunked.
func (f *first) readHead() (int, error) {
	line, err := f.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return 0, fmt.Errorf("the server answered %q", line)
	}
	length := unknown
	for {
		if line, err = f.reader.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		} else if bytes.EqualFold(name, []byte("transfer-encoding")) && bytes.EqualFold(bytes.TrimSpace(value), []byte("chunked")) {
			length = chunked
		}
	}
	if length == unknown {
		return 0, errors.New("the answer has no length")
	}
	return length, nil
}
