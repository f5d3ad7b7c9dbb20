"""A Ray cluster whose hosts are processes of this machine, with a CPU each.

    python ray_cluster.py

prints the cluster's address. Each line "add" on standard input adds a host, each line "kill" kills
the one that was added first; the end of the input ends the cluster.
"""

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    print(cluster.address, flush=True)
    hosts = []
    for line in sys.stdin:
        if line == "add\n":
            hosts.append(cluster.add_node(num_cpus=1))
        else:
            cluster.remove_node(hosts.pop(0), allow_graceful=False)
    cluster.shutdown()
