/**
 * What the guest does while it is moved, and the ticks by which its pause is seen. It asks its host
 * every second which load it shall have, so that one boot serves for all.
 */

export interface Load {
  readonly id: string;
  readonly title: string;
  /** A program of the shell that is done before the load is there. */
  readonly before?: string;
  /** A program of the shell that goes on. */
  readonly meanwhile?: string;
}

/** 48 MiB of programs' bytes in `$m`, shifted so that no page is one of a component's. */
const MATERIAL =
  `$m="";for(grep{-f}glob("/usr/bin/* /usr/sbin/* /usr/lib/x86_64-linux-gnu/*.so*")){` +
  `last if length($m)>(48<<20)+101;open(F,"<",$_)||next;while(sysread(F,$b,1<<20)){$m.=$b}close(F)}` +
  `substr($m,0,101,"");substr($m,48<<20)="";open(R,"/dev/urandom");`;

/** Turns of a tenth of a second each, with what they take subtracted. */
const paced = (work: string): string =>
  `use Time::HiRes qw(time sleep);system("echo $ENV{SAY} >/dev/ttyS0");$t=time;while(1){${work};$t+=0.1;$w=$t-time;if($w>0){sleep($w)}else{$t=time}}`;

/** In one page after the other, as chance has it, 256 bytes are replaced by random ones. */
const dirtying = (MBps: number): string =>
  `perl -e '${MATERIAL}$n=length($m)>>12;$k=0;` +
  paced(
    `for(1..${Math.round((MBps * 1e6) / 4096 / 10)}){$k=($k*69069+5)%$n;sysread(R,$r,256);` +
      `substr($m,4096*$k+256*int(rand(16)),256)=$r}`,
  ) +
  `'`;

const WRITE_BYTES = 256 * 1024;
/** Of the file that is written, over and over. */
const WRITES = 256;

/** Writes of 256 KiB one after the other into a file of 64 MiB, made durable ten times a second. */
const writing = (MBps: number): string =>
  `perl -e '${MATERIAL}use IO::Handle;open(F,"+>","/var/load");$n=0;` +
  paced(
    `for(1..${Math.round((MBps * 1e6) / WRITE_BYTES / 10)}){sysseek(F,$n*${WRITE_BYTES},0);` +
      `syswrite(F,substr($m,int(rand(length($m)-${WRITE_BYTES})),${WRITE_BYTES}));` +
      `$n=($n+1)%${WRITES}}F->sync`,
  ) +
  `'`;

/** 20,000 records of 1 KiB in redis; then 200 are set and 200 are read in each second. */
const REDIS =
  `use Socket;socket(S,PF_INET,SOCK_STREAM,6);connect(S,sockaddr_in(6379,inet_aton("127.0.0.1")))||die;` +
  `sub ask{my $q="*".@_."\\r\\n";$q.="\\$".length($_)."\\r\\n$_\\r\\n" for @_;syswrite(S,$q)}` +
  `sub set{sysread(R,$r,512);ask("SET","record-$_[0]",unpack("H*",$r));sysread(S,$a,64)}` +
  `sub get{ask("GET","record-$_[0]");sysread(S,$a,2048)}open(R,"/dev/urandom");`;
const RECORDS = 20_000;

const fillRedis = `until redis-cli ping | grep -q PONG; do sleep 0.2; done; perl -e '${REDIS}set($_) for 1..${RECORDS}'`;
const useRedis = `perl -e '${REDIS}${paced(`for(1..20){set(1+int(rand(${RECORDS})));get(1+int(rand(${RECORDS})))}`)}'`;

export const LOADS = {
  idle: { id: "idle", title: "an idle guest" },
  warm: {
    id: "warm",
    title: "a guest with a warm page cache",
    before: "find /usr /etc /lib -xdev -type f -exec cat {} + >/dev/null",
  },
  dirty5: { id: "dirty5", title: "a guest that dirties 5 MB/s of memory", meanwhile: dirtying(5) },
  dirty20: {
    id: "dirty20",
    title: "a guest that dirties 20 MB/s of memory",
    meanwhile: dirtying(20),
  },
  write10: {
    id: "write10",
    title: "a guest that writes 10 MB/s to its disk",
    meanwhile: writing(10),
  },
  write50: {
    id: "write50",
    title: "a guest that writes 50 MB/s to its disk",
    meanwhile: writing(50),
  },
  redis: {
    id: "redis",
    title: "a guest with a redis that is asked 400 times a second",
    before: fillRedis,
    meanwhile: useRedis,
  },
} as const satisfies Readonly<Record<string, Load>>;

export type LoadId = keyof typeof LOADS;

export const TICK_MS = 10;

/** A line on the console every 10 ms; who logs in there hangs it up. */
const TICKER =
  `exec perl -e '$n=0;while(1){syswrite(C,"tick $n\\n")?$n++:open(C,">","/dev/ttyS0");` +
  `select(undef,undef,undef,${TICK_MS / 1000})}'`;

/** Where the guest asks; 10.0.2.2 is its host's loopback. */
export const LOAD_PORT = 7900;

/**
 * Runs the program of the load that the host names, in place of the one before. A connection that a
 * move has cut in its midst says nothing for ever.
 */
const CHANGER =
  `exec perl -e 'use Socket;$SIG{ALRM}=sub{die};$now="";while(1){if(socket(S,PF_INET,SOCK_STREAM,6)&&` +
  `connect(S,sockaddr_in(${LOAD_PORT},inet_aton("10.0.2.2")))){$want="";eval{alarm(3);sysread(S,$want,64);alarm(0)};chomp $want;` +
  `if($want=~/^[a-z0-9]+$/&&$want ne $now){if($pid){kill(-9,$pid);waitpid($pid,0)}$now=$want;$pid=fork;` +
  `if(!$pid){setpgrp;exec("/bin/sh","/etc/bench/$now")}}}close(S);select(undef,undef,undef,1)}'`;

/**
 * In place of systemd, so that the guest boots in seconds under emulation: its first process. The
 * programs, their libraries and redis are Debian's.
 */
const INIT = `#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t tmpfs tmpfs /tmp
modprobe virtio_net
modprobe virtio_rng
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mkdir -p /var/lib/redis
redis-server --dir /var/lib/redis --appendonly yes --save "" --daemonize yes >/dev/null
sh /etc/bench/ticks &
sh /etc/bench/changer &
echo "ready $(cat /proc/sys/kernel/random/boot_id)" >/dev/ttyS1
while :; do
  wait
  sleep 1
done
`;

/** What the guest says on its console when a load is there. */
export function saidBy(load: Load): string {
  return `load ${load.id} is there`;
}

function program(load: Load): string {
  const { before, meanwhile } = load;
  const say = `export SAY="${saidBy(load)}"`;
  const last = meanwhile ?? "echo $SAY >/dev/ttyS0";
  return `${[say, before, last].filter((part) => part !== undefined).join("\n")}\n`;
}

export interface GuestFile {
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

export function guestFiles(): GuestFile[] {
  const loads: readonly Load[] = Object.values(LOADS);
  const texts = [
    ...loads.map((load) => [load.id, program(load)] as const),
    ["ticks", `${TICKER}\n`] as const,
    ["changer", `${CHANGER}\n`] as const,
  ];
  return [
    ...texts.map(([name, text]) => ({ path: `/etc/bench/${name}`, text, mode: 0o644 })),
    { path: "/usr/sbin/init", text: INIT, mode: 0o755 },
  ];
}
