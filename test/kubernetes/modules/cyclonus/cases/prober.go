package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/mattfenwick/cyclonus/pkg/worker"
	v1 "k8s.io/api/core/v1"
)

// connection is one that a probe tries: from and to are NAMESPACE/POD, port is PROTOCOL/PORT.
type connection struct{ from, to, port string }

// probeResult has the connections of one probe, all Pods' together: true if one was made.
type probeResult map[generator.ProbeMode]map[connection]bool

// prober gives cyclonus a cluster, and connects to several destinations where cyclonus asks for the Pods' addresses.
// It asks for a Service's address itself, since cyclonus forgets that of a Pod that it creates or labels anew.
type prober struct {
	kube.IKubernetes
	destinations []generator.ProbeMode

	lock sync.Mutex
	// probes are those since the case began, in order.
	probes []probeResult
	// has are the Pods whose connections are in the last of probes.
	has map[string]bool
	// addresses of Services, by NAMESPACE/NAME.
	addresses map[string]string
}

func newProber(cluster kube.IKubernetes, destinations []generator.ProbeMode) *prober {
	return &prober{IKubernetes: cluster, destinations: destinations, addresses: map[string]string{}}
}

func (p *prober) CreateService(service *v1.Service) (*v1.Service, error) {
	p.forget(service.Namespace, service.Name)
	return p.IKubernetes.CreateService(service)
}

func (p *prober) DeleteService(namespace, name string) error {
	p.forget(namespace, name)
	return p.IKubernetes.DeleteService(namespace, name)
}

func (p *prober) forget(namespace, name string) {
	p.lock.Lock()
	defer p.lock.Unlock()
	delete(p.addresses, namespace+"/"+name)
}

func (p *prober) serviceAddress(namespace, name string) (string, error) {
	key := namespace + "/" + name
	p.lock.Lock()
	address := p.addresses[key]
	p.lock.Unlock()
	if address != "" {
		return address, nil
	}
	service, err := p.GetService(namespace, name)
	if err != nil {
		return "", err
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	p.addresses[key] = service.Spec.ClusterIP
	return service.Spec.ClusterIP, nil
}

// ExecuteRemoteCommand runs the connector with a Pod's connections to all destinations. cyclonus gets one answer for
// those to the same Pod and port. Where they differ it gets an error, which is never what it expects: it then probes
// once more.
func (p *prober) ExecuteRemoteCommand(namespace, pod, container string, command []string) (string, string, error, error) {
	var asked worker.Batch
	if err := json.Unmarshal([]byte(command[len(command)-1]), &asked); err != nil {
		return "", "", nil, err
	}
	batch := worker.Batch{Namespace: asked.Namespace, Pod: asked.Pod, Container: asked.Container}
	for _, destination := range p.destinations {
		for _, wanted := range asked.Requests {
			host, err := p.host(destination, wanted)
			if err != nil {
				return "", "", nil, err
			}
			request := *wanted
			request.Host = host
			batch.Requests = append(batch.Requests, &request)
		}
	}
	jobs, err := json.Marshal(batch)
	if err != nil {
		return "", "", nil, err
	}
	command = append(command[:len(command)-1:len(command)-1], string(jobs))
	stdout, stderr, commandError, err := p.IKubernetes.ExecuteRemoteCommand(namespace, pod, container, command)
	var results []*worker.Result
	if err == nil && commandError == nil {
		err = json.Unmarshal([]byte(stdout), &results)
	}
	if err == nil && commandError == nil && len(results) != len(batch.Requests) {
		err = fmt.Errorf("Cannot read the connector: expected %d results, got %d", len(batch.Requests), len(results))
	}
	one := p.keep(namespace+"/"+pod, len(asked.Requests), results)
	if err != nil || commandError != nil {
		return stdout, stderr, commandError, err
	}
	if one == nil {
		return "", stderr, nil, fmt.Errorf("The destinations differ for %s/%s", namespace, pod)
	}
	answer, err := json.Marshal(one)
	return string(answer), stderr, nil, err
}

func (p *prober) host(destination generator.ProbeMode, wanted *worker.Request) (string, error) {
	// From: namespace, Pod, container; to: namespace, Pod, container; protocol, port.
	parts := strings.Split(wanted.Key, "/")
	namespace, name := parts[3], fmt.Sprintf("s-%s-%s", parts[3], parts[4])
	switch destination {
	case generator.ProbeModeServiceIP:
		return p.serviceAddress(namespace, name)
	case generator.ProbeModeServiceName:
		return kube.QualifiedServiceAddress(name, namespace), nil
	default:
		return wanted.Host, nil
	}
}

// keep adds a Pod's results to the last probe; a Pod that is already in it begins the next. The results are `count` for
// each destination, in order; none if the connector failed. It returns one result for each connection, or nil where the
// destinations differ.
func (p *prober) keep(from string, count int, results []*worker.Result) []*worker.Result {
	p.lock.Lock()
	defer p.lock.Unlock()
	if len(p.probes) == 0 || p.has[from] {
		p.probes = append(p.probes, probeResult{})
		p.has = map[string]bool{}
	}
	p.has[from] = true
	if len(results) == 0 {
		return nil
	}
	last := p.probes[len(p.probes)-1]
	differ := false
	for at, result := range results {
		destination := p.destinations[at/count]
		if last[destination] == nil {
			last[destination] = map[connection]bool{}
		}
		last[destination][connectionOf(result.Request.Key)] = result.IsSuccess()
		differ = differ || result.IsSuccess() != results[at%count].IsSuccess()
	}
	if differ {
		return nil
	}
	return results[:count]
}

func connectionOf(key string) connection {
	parts := strings.Split(key, "/")
	return connection{from: parts[0] + "/" + parts[1], to: parts[3] + "/" + parts[4], port: parts[6] + "/" + parts[7]}
}
