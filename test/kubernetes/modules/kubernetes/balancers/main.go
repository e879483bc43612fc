// Command balancers is a cloud's load balancers for the test cluster: Kubernetes' own Service controller
// (k8s.io/cloud-provider), over a provider whose cloud is the router that this program runs in. A Service of
// type LoadBalancer gets an address of each of its families, with ipMode VIP, and the router spreads its clients
// over the Nodes: over all that are ready, or, with externalTrafficPolicy Local, over those whose
// healthCheckNodePort says that they have endpoints.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/service"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	_ "k8s.io/controller-manager/pkg/features/register" // the controller asks for its feature gates
)

// protocol marks the routes of this program in the router.
const protocol = "202"

// sources are the router's own addresses for what it sends to load balancers, by "is IPv6": no Node's network.
var sources = map[bool]string{false: "198.51.100.1", true: "2001:db8:100::1"}

// period is the time between two health checks of a Node.
const period = time.Second

// balancer is one Service's.
type balancer struct {
	addresses []netip.Addr
	nodes     []*v1.Node
	// healthPort is the Service's healthCheckNodePort; 0: every Node serves it.
	healthPort int32
	// affinity: a client has to reach the same Node always. One Node for all is the simplest.
	affinity bool
	// hops are the next hops that the router has for an address.
	hops map[netip.Addr]string
}

// cloud keeps the load balancers of all Services.
type cloud struct {
	// first addresses of the ranges, IPv4 and IPv6
	ranges    []netip.Prefix
	mutex     sync.Mutex
	balancers map[types.UID]*balancer
}

func ip(args ...string) error {
	output, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %s", strings.Join(args, " "), output)
	}
	return nil
}

// free is the first address of a range that no Service has.
func (c *cloud) free(from netip.Prefix) netip.Addr {
	for address := from.Addr().Next(); from.Contains(address); address = address.Next() {
		taken := false
		for _, one := range c.balancers {
			taken = taken || slices.Contains(one.addresses, address)
		}
		if !taken {
			return address
		}
	}
	return netip.Addr{}
}

// addresses of a Service: those that it has already, or new ones.
func (c *cloud) addresses(of *v1.Service) []netip.Addr {
	var found []netip.Addr
	for _, family := range of.Spec.IPFamilies {
		for _, from := range c.ranges {
			if from.Addr().Is6() != (family == v1.IPv6Protocol) {
				continue
			}
			address := c.free(from)
			for _, ingress := range of.Status.LoadBalancer.Ingress {
				if old, err := netip.ParseAddr(ingress.IP); err == nil && from.Contains(old) {
					address = old
				}
			}
			found = append(found, address)
		}
	}
	return found
}

// serves tells whether a Node takes new connections of a Service now.
func serves(node *v1.Node, healthPort int32) bool {
	if healthPort == 0 {
		return true
	}
	client := http.Client{Timeout: period, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(fmt.Sprintf("http://%s:%d/healthz", internal(node, false), healthPort))
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// internal is a Node's InternalIP of a family.
func internal(node *v1.Node, isIPv6 bool) string {
	for _, address := range node.Status.Addresses {
		if address.Type == v1.NodeInternalIP && strings.Contains(address.Address, ":") == isIPv6 {
			return address.Address
		}
	}
	return ""
}

// steer makes the router send a Service's clients to the Nodes that serve it.
func (b *balancer) steer() error {
	var nodes []*v1.Node
	for _, node := range b.nodes {
		if serves(node, b.healthPort) {
			nodes = append(nodes, node)
		}
	}
	for _, address := range b.addresses {
		var hops []string
		for _, node := range nodes {
			if hop := internal(node, address.Is6()); hop != "" && (len(hops) == 0 || !b.affinity) {
				hops = append(hops, "nexthop", "via", hop)
			}
		}
		wanted := strings.Join(hops, " ")
		if now, isKnown := b.hops[address]; isKnown && now == wanted {
			continue
		}
		if wanted == "" {
			// Only the range's own route is left, which leads nowhere.
			_ = ip("route", "delete", address.String(), "protocol", protocol)
		} else {
			source := sources[address.Is6()]
			args := append([]string{"route", "replace", address.String(), "protocol", protocol, "src", source}, hops...)
			if err := ip(args...); err != nil {
				return err
			}
		}
		b.hops[address] = wanted
	}
	return nil
}

func (c *cloud) status(of *balancer) *v1.LoadBalancerStatus {
	mode := v1.LoadBalancerIPModeVIP
	status := &v1.LoadBalancerStatus{}
	for _, address := range of.addresses {
		status.Ingress = append(status.Ingress, v1.LoadBalancerIngress{IP: address.String(), IPMode: &mode})
	}
	return status
}

func (c *cloud) GetLoadBalancerName(_ context.Context, _ string, of *v1.Service) string {
	return string(of.UID)
}

func (c *cloud) GetLoadBalancer(_ context.Context, _ string, of *v1.Service) (*v1.LoadBalancerStatus, bool, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found, isThere := c.balancers[of.UID]
	if !isThere {
		return nil, false, nil
	}
	return c.status(found), true, nil
}

func (c *cloud) EnsureLoadBalancer(_ context.Context, _ string, of *v1.Service, nodes []*v1.Node) (*v1.LoadBalancerStatus, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found, isThere := c.balancers[of.UID]
	if !isThere || len(found.addresses) != len(of.Spec.IPFamilies) {
		found = &balancer{addresses: c.addresses(of), hops: map[netip.Addr]string{}}
		c.balancers[of.UID] = found
	}
	// In one order: the router chooses among next hops by their places.
	found.nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *v1.Node) int { return strings.Compare(a.Name, b.Name) })
	found.healthPort = of.Spec.HealthCheckNodePort
	found.affinity = of.Spec.SessionAffinity == v1.ServiceAffinityClientIP
	return c.status(found), found.steer()
}

func (c *cloud) UpdateLoadBalancer(ctx context.Context, cluster string, of *v1.Service, nodes []*v1.Node) error {
	_, err := c.EnsureLoadBalancer(ctx, cluster, of, nodes)
	return err
}

func (c *cloud) EnsureLoadBalancerDeleted(_ context.Context, _ string, of *v1.Service) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found, isThere := c.balancers[of.UID]
	if !isThere {
		return nil
	}
	for address := range found.hops {
		_ = ip("route", "delete", address.String(), "protocol", protocol)
	}
	delete(c.balancers, of.UID)
	return nil
}

// check steers by the Nodes' health until the context ends.
func (c *cloud) check(ctx context.Context) {
	for ctx.Err() == nil {
		c.mutex.Lock()
		for uid, one := range c.balancers {
			if err := one.steer(); err != nil {
				fmt.Fprintln(os.Stderr, uid, err)
			}
		}
		c.mutex.Unlock()
		time.Sleep(period)
	}
}

func (c *cloud) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}
func (c *cloud) LoadBalancer() (cloudprovider.LoadBalancer, bool)                  { return c, true }
func (c *cloud) Instances() (cloudprovider.Instances, bool)                        { return nil, false }
func (c *cloud) InstancesV2() (cloudprovider.InstancesV2, bool)                    { return nil, false }
func (c *cloud) Zones() (cloudprovider.Zones, bool)                                { return nil, false }
func (c *cloud) Clusters() (cloudprovider.Clusters, bool)                          { return nil, false }
func (c *cloud) Routes() (cloudprovider.Routes, bool)                              { return nil, false }
func (c *cloud) ProviderName() string                                              { return "lab" }
func (c *cloud) HasClusterID() bool                                                { return true }

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "file")
	ranges := flag.String("ranges", "", "CIDRs of the load balancers' addresses, by comma")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	lab := &cloud{balancers: map[types.UID]*balancer{}}
	for _, text := range strings.Split(*ranges, ",") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		lab.ranges = append(lab.ranges, prefix)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	factory := informers.NewSharedInformerFactory(client, 0)
	controller, err := service.New(lab, client, factory.Core().V1().Services(), factory.Core().V1().Nodes(),
		"kubernetes", utilfeature.DefaultFeatureGate)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	go lab.check(ctx)
	controller.Run(ctx, 4, controllersmetrics.NewControllerManagerMetrics("service"))
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
