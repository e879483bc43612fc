// Command routes is a cloud's route controller for the test cluster: Kubernetes' own controller
// (k8s.io/cloud-provider), over a provider whose cloud is a router in a network namespace. It gives the router a
// route to each pod CIDR, takes routes of Nodes that are gone away, and sets the Nodes' NetworkUnavailable.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/route"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	_ "k8s.io/controller-manager/pkg/features/register" // the controller asks for its feature gates
)

// protocol marks the routes of this program in the router.
const protocol = "201"

// router is a cloud: a network namespace whose routes this program owns.
type router struct {
	namespace string
	nodes     corelisters.NodeLister
}

// ip runs ip(8) in the router.
func (r *router) ip(ctx context.Context, args ...string) ([]byte, error) {
	command := append([]string{"--net=" + r.namespace, "ip"}, args...)
	output, err := exec.CommandContext(ctx, "nsenter", command...).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return nil, fmt.Errorf("ip %s: %s", strings.Join(args, " "), exit.Stderr)
	}
	return output, err
}

// owner is the Node that has the address; "": none, as for a Node that was deleted.
func (r *router) owner(address string) types.NodeName {
	nodes, err := r.nodes.List(labels.Everything())
	if err != nil {
		return ""
	}
	for _, node := range nodes {
		for _, one := range node.Status.Addresses {
			if one.Address == address {
				return types.NodeName(node.Name)
			}
		}
	}
	return ""
}

func (r *router) ListRoutes(ctx context.Context, _ string) ([]*cloudprovider.Route, error) {
	var found []*cloudprovider.Route
	for _, family := range []string{"-4", "-6"} {
		output, err := r.ip(ctx, "-j", family, "route", "show", "protocol", protocol)
		if err != nil {
			return nil, err
		}
		var routes []struct{ Dst, Gateway string }
		if err := json.Unmarshal(output, &routes); err != nil {
			return nil, err
		}
		for _, one := range routes {
			node := r.owner(one.Gateway)
			found = append(found, &cloudprovider.Route{
				Name: one.Dst, TargetNode: node, DestinationCIDR: one.Dst, Blackhole: node == "",
			})
		}
	}
	return found, nil
}

func (r *router) CreateRoute(ctx context.Context, _ string, _ string, wanted *cloudprovider.Route) error {
	isIPv6 := strings.Contains(wanted.DestinationCIDR, ":")
	for _, address := range wanted.TargetNodeAddresses {
		if address.Type == v1.NodeInternalIP && strings.Contains(address.Address, ":") == isIPv6 {
			_, err := r.ip(ctx, "route", "replace", wanted.DestinationCIDR, "via", address.Address, "protocol", protocol)
			return err
		}
	}
	return fmt.Errorf("%s has no address of the family of %s", wanted.TargetNode, wanted.DestinationCIDR)
}

func (r *router) DeleteRoute(ctx context.Context, _ string, unwanted *cloudprovider.Route) error {
	_, err := r.ip(ctx, "route", "delete", unwanted.DestinationCIDR, "protocol", protocol)
	return err
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "file")
	namespace := flag.String("router", "", "path of the router's network namespace")
	cidrs := flag.String("cluster-cidr", "", "pod CIDRs of the cluster, by comma")
	period := flag.Duration("period", 10*time.Second, "time between two full passes")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var clusterCIDRs []*net.IPNet
	for _, text := range strings.Split(*cidrs, ",") {
		_, cidr, err := net.ParseCIDR(text)
		if err != nil {
			return err
		}
		clusterCIDRs = append(clusterCIDRs, cidr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	cloud := &router{namespace: *namespace, nodes: nodes.Lister()}
	controller, err := route.New(cloud, client, nodes, "kubernetes", clusterCIDRs)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	controller.Run(ctx, *period, controllersmetrics.NewControllerManagerMetrics("routes"))
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
