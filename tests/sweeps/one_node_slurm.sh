#!/bin/sh
# Starts SLURM on this machine alone, with four GPUs that do not exist, for the tests marked `cluster`.
# As root on Debian:   apt-get install slurm-wlm munge && sh tests/sweeps/one_node_slurm.sh
# Then:                python -m pytest -m cluster tests/sweeps
# Jobs can be preempted and requeued: the partition `spare` yields to the partition `main`.
set -e
for gpu in 0 1 2 3; do
    [ -e /dev/fakegpu$gpu ] || mknod /dev/fakegpu$gpu c 1 3
done
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /run/munge /var/log/slurm
cat > /etc/slurm/slurm.conf <<END
ClusterName=alone
SlurmctldHost=$(hostname)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
SchedulerParameters=batch_sched_delay=1,sched_min_interval=500000
NodeName=$(hostname) CPUs=$(nproc) RealMemory=$(free -m | awk '/Mem/ {print int($2 * 0.9)}') Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes=$(hostname) Default=YES PriorityTier=2 State=UP MaxTime=INFINITE PreemptMode=OFF
PartitionName=spare Nodes=$(hostname) PriorityTier=1 State=UP MaxTime=INFINITE PreemptMode=REQUEUE GraceTime=20
END
echo "NodeName=$(hostname) Name=gpu File=/dev/fakegpu[0-3]" > /etc/slurm/gres.conf
[ -e /etc/munge/munge.key ] || mungekey --create
chown -R munge /run/munge /etc/munge
pgrep munged > /dev/null || su -s /bin/sh munge -c /usr/sbin/munged
pgrep slurmctld > /dev/null || slurmctld
pgrep slurmd > /dev/null || slurmd
sleep 3
scontrol update NodeName=$(hostname) State=RESUME 2> /dev/null || true
sinfo
