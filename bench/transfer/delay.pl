# Relays packets between a TUN device in one network namespace and one in another, each packet
# DELAY_ms after it came. Arguments: NAMESPACE NAMESPACE DEVICE DELAY_ms. Prints "ready". Loses
# nothing: its queues are not bounded, the rate is limited by whoever shapes the devices.
use strict;
use warnings;
use Fcntl qw(O_RDWR O_NONBLOCK);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my ($first, $second, $device, $delay_ms) = @ARGV;
my $delay_s = $delay_ms / 1000;

use constant {
    SYS_setns    => 308,           # x86-64
    CLONE_NEWNET => 0x40000000,
    TUNSETIFF    => 0x400454ca,
    IFF_TUN      => 0x0001,
    IFF_NO_PI    => 0x1000,
};

sub open_device {
    my ($namespace) = @_;
    open(my $handle, '<', "/run/netns/$namespace") or die "$namespace: $!\n";
    syscall(SYS_setns, fileno($handle), CLONE_NEWNET) == 0 or die "setns: $!\n";
    sysopen(my $tun, '/dev/net/tun', O_RDWR | O_NONBLOCK) or die "/dev/net/tun: $!\n";
    my $request = pack('a16 S x22', $device, IFF_TUN | IFF_NO_PI);
    ioctl($tun, TUNSETIFF, $request) or die "TUNSETIFF: $!\n";
    return $tun;
}

my @tuns = (open_device($first), open_device($second));
my @queues = ([], []);    # what came from each, as [due, packet]
$| = 1;
print "ready\n";

while (1) {
    my $now = clock_gettime(CLOCK_MONOTONIC);
    my $next;
    for my $side (0, 1) {
        my $queue = $queues[$side];
        while (@$queue && $queue->[0][0] <= $now) {
            syswrite($tuns[1 - $side], (shift @$queue)->[1]);
        }
        next unless @$queue;
        my $due = $queue->[0][0];
        $next = $due if !defined $next || $due < $next;
    }
    my $wait = defined $next ? $next - clock_gettime(CLOCK_MONOTONIC) : 1;
    my $bits = '';
    vec($bits, fileno($_), 1) = 1 for @tuns;
    next if select($bits, undef, undef, $wait < 0 ? 0 : $wait) <= 0;
    for my $side (0, 1) {
        next unless vec($bits, fileno($tuns[$side]), 1);
        my $due = clock_gettime(CLOCK_MONOTONIC) + $delay_s;
        for (1 .. 64) {
            my $length = sysread($tuns[$side], my $packet, 65536);
            last unless $length;
            push @{ $queues[$side] }, [$due, $packet];
        }
    }
}
