/**
 * The machine's service: it downloads a file from a web site into its user data, goes on where it
 * was when it is started anew, and reports the digest when it has the whole. Perl, because every
 * Debian has it. 10.0.2.2 is the host of the machine, wherever that is.
 */
const FETCH = (name: string, port: number): string => `use strict;
use IO::Socket::INET;
my $file = "/srv/download/${name}";
mkdir "/srv/download";
sub ask {
  my ($path, $offset) = @_;
  my $to = IO::Socket::INET->new(PeerAddr => "10.0.2.2", PeerPort => ${port}) or return;
  print $to "GET $path HTTP/1.1\\r\\nHost: site\\r\\nConnection: close\\r\\nRange: bytes=$offset-\\r\\n\\r\\n";
  return $to;
}
for (;;) {
  my $have = -s $file || 0;
  my $from = ask("/file/${name}", $have);
  if (!$from) { sleep 1; next; }
  my $whole;
  while (my $line = <$from>) {
    $whole = $1 if $line =~ m{^content-range: bytes \\d+-\\d+/(\\d+)}i;
    last if $line eq "\\r\\n";
  }
  if (!defined $whole) { sleep 1; next; }
  open(my $to, ">>", $file) or die;
  $to->autoflush(1);
  my $piece;
  print $to $piece while read($from, $piece, 65536);
  close $to;
  last if -s $file >= $whole;
}
my ($digest) = split / /, \`sha256sum $file\`;
my $told;
until ($told = ask("/done/${name}/$digest", 0)) { sleep 1; }
1 while <$told>;
`;

const UNIT = `[Unit]
After=network-online.target
Wants=network-online.target
[Service]
ExecStart=/usr/bin/perl /usr/local/lib/download.pl
Restart=on-failure
`;

interface InstanceFile {
  readonly path: string;
  readonly contentBase64: string;
}

function file(path: string, text: string): InstanceFile {
  return { path, contentBase64: Buffer.from(text).toString("base64") };
}

/** The files that make a machine download `name` from port `port` of its host's web server. */
export function serviceFiles(name: string, port: number): InstanceFile[] {
  return [
    file("/usr/local/lib/download.pl", FETCH(name, port)),
    file("/etc/systemd/system/download.service", UNIT),
    file(
      "/etc/systemd/system/multi-user.target.d/download.conf",
      "[Unit]\nWants=download.service\n",
    ),
  ];
}
