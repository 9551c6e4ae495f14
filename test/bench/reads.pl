# reads.pl DIR - what reads.sh starts.
use strict;
use warnings;

use IO::Socket::INET;
use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC);

my $dir = shift or die "usage: reads.pl DIR\n";
my $seconds = $ENV{SECONDS_EACH};
my $rounds = $ENV{ROUNDS};
my @clients = split ' ', $ENV{CLIENTS};
my @levels = split ' ', $ENV{LEVELS};
my $ROWS = 10_000;
my $TICK_US = 1e6 / 100;

sub run
{
	system(join(' ', map { quotemeta } @_) . " >>$dir/log 2>&1") == 0
	  or die "failed: @_\n" . `tail -n 20 $dir/log`;
}

sub sql
{
	my ($server, $sql) = @_;
	my $out = `psql -X -q -A -t -v ON_ERROR_STOP=1 -h $dir -p $server->{port} -d postgres -c @{[quotemeta $sql]} 2>>$dir/log`;

	die "failed on $server->{name}: $sql\n" . `tail -n 5 $dir/log` if $?;
	chomp $out;
	return $out;
}

sub poll
{
	my ($what, $code) = @_;
	my $end = clock_gettime(CLOCK_MONOTONIC) + 60;

	until ($code->())
	{
		die "gave up waiting until $what\n" if clock_gettime(CLOCK_MONOTONIC) > $end;
		usleep(20_000);
	}
}

sub make_server
{
	my ($name, $port, $text) = @_;
	my $server = { name => $name, port => $port, data => "$dir/$name" };

	run('initdb', '-A', 'trust', '-N', '-D', $server->{data}, '--no-locale', '--encoding=UTF8');
	open my $conf, '>>', "$server->{data}/postgresql.conf" or die $!;
	print $conf "port = $port\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '$dir'\n"
	  . "max_connections = 100\nshared_buffers = '64MB'\nautovacuum = off\n$text";
	close $conf;
	run('pg_ctl', '-D', $server->{data}, '-l', "$server->{data}.log", '-w', 'start');
	open my $pid, '<', "$server->{data}/postmaster.pid" or die $!;
	chomp($server->{pid} = <$pid>);
	close $pid;
	return $server;
}

sub ticks_of
{
	my ($pid, $last) = @_;

	open my $stat, '<', "/proc/$pid/stat" or return (0, 0);
	my $line = <$stat> // return (0, 0);
	$line =~ s/^.*\) //s;
	my @f = split ' ', $line;
	my $sum = 0;
	$sum += $f[$_] for 11 .. $last;
	return ($f[1], $sum);
}

sub cpu_us
{
	my %postmaster = map { $_->{pid} => 1 } @_;
	my $ticks = 0;

	$ticks += (ticks_of($_, 14))[1] for keys %postmaster;
	for my $path (glob '/proc/[0-9]*')
	{
		my ($pid) = $path =~ /(\d+)$/;
		my ($parent, $own) = ticks_of($pid, 12);
		$ticks += $own if $postmaster{$parent};
	}
	return $ticks * $TICK_US;
}

# tps and processor time a read
sub measure
{
	my ($server, $count, $options, @all) = @_;
	my $before = cpu_us(@all);

	local $ENV{PGOPTIONS} = $options;
	my $text = `pgbench -n -M prepared -h $dir -p $server->{port} -c $count -j 1 -T $seconds -f $dir/read.sql postgres 2>>$dir/log`;
	die "pgbench failed: $text\n" . `tail -n 5 $dir/log` if $?;
	my ($tps) = $text =~ /^tps = ([0-9.]+)/m or die $text;
	my ($done) = $text =~ /actually processed: (\d+)/ or die $text;
	return ($tps, (cpu_us(@all) - $before) / ($done || 1));
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ $#sorted / 2 ];
}

$| = 1;
my @sockets = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') } 1 .. 7;
my @ports = map { $_->sockport } @sockets;
undef @sockets;
for my $file ([ read => "\\set id random(1, $ROWS)\nSELECT v FROM hot WHERE id = :id;\n" ],
	[ write => "\\set id random(1, $ROWS)\nUPDATE hot SET v = v + 1 WHERE id = :id;\n" ])
{
	open my $out, '>', "$dir/$file->[0].sql" or die $!;
	print $out $file->[1];
	close $out;
}
my @quorum = map { make_server("q$_", $ports[ $_ - 1 ],
		"shared_preload_libraries = 'pg_quorum'\nquorum.node_name = 'q$_'\nquorum.address = '127.0.0.1:$ports[$_ + 2]'\n") } 1 .. 3;
my $plain = make_server('plain', $ports[6], '');
my $schema = 'CREATE TABLE hot (id int PRIMARY KEY, v int NOT NULL, filler text)';
my $fill = "INSERT INTO hot SELECT g, 0, repeat('x', 80) FROM generate_series(1, $ROWS) g";
sql($_, 'CREATE EXTENSION pg_quorum') for @quorum;
sql($quorum[0], 'SELECT quorum.create_cluster()');
sql($_, "SELECT quorum.join_cluster('127.0.0.1:$ports[3]')") for @quorum[ 1, 2 ];
sql($_, $schema) for @quorum, $plain;
sql($quorum[0], "SELECT quorum.add_table('hot')");
sql($_, $fill) for $quorum[0], $plain;
poll('all have the rows', sub { !grep { sql($_, 'SELECT count(*) FROM hot') != $ROWS } @quorum });
sql($_, 'VACUUM ANALYZE hot') for @quorum, $plain;
my ($leader) = grep { sql($_, 'SELECT role FROM quorum.status') eq 'leader' } @quorum;
my ($follower) = grep { $_ != $leader } @quorum;
my $token = sql($leader, 'UPDATE hot SET v = 1 WHERE id = 1; SELECT quorum.current_token()');

my $writers;
if ($ENV{WRITERS})
{
	$writers = fork // die $!;
	exec "exec pgbench -n -M prepared -h $dir -p $leader->{port} -c $ENV{WRITERS} -j 1 -T 36000 -f $dir/write.sql postgres >/dev/null 2>&1"
	  if $writers == 0;
}
print "reads per second: medians of $rounds runs of $seconds s, each next to one of plain PostgreSQL; ratio: median of the pairs\n";
printf "%-18s %-9s %8s %10s %10s %7s %12s %12s\n", 'level', 'node', 'clients', 'pg_quorum', 'plain', 'ratio',
  'us/read', 'plain us/read';
for my $level (@levels)
{
	my $lease = $level eq 'lease';
	for my $s ($lease ? @quorum : ())
	{
		sql($s, 'ALTER SYSTEM SET quorum.leader_lease = on');
		sql($s, 'SELECT pg_reload_conf()');
	}
	usleep(1_000_000) if $lease;
	for my $node ($lease ? $leader : ($leader, $follower))
	{
		for my $count (@clients)
		{
			my (@q, @p, @ratio, @qcpu, @pcpu);
			my $options = '-c quorum.read_consistency=' . ($lease ? 'strong' : $level);
			$options .= " -c quorum.causal_token=$token" if $level eq 'causal';
			for my $round (1 .. $rounds)
			{
				my ($qt, $qc, $pt, $pc);
				for my $side ($round % 2 ? qw(q p) : qw(p q))
				{
					($qt, $qc) = measure($node, $count, $options, @quorum) if $side eq 'q';
					($pt, $pc) = measure($plain, $count, '', $plain) if $side eq 'p';
				}
				push @q, $qt;
				push @p, $pt;
				push @ratio, $qt / $pt;
				push @qcpu, $qc;
				push @pcpu, $pc;
			}
			printf "%-18s %-9s %8d %10.0f %10.0f %7.2f %12.1f %12.1f\n", $lease ? 'strong, lease' : $level,
			  $node == $leader ? 'leader' : 'follower', $count, median(@q), median(@p), median(@ratio),
			  median(@qcpu), median(@pcpu);
		}
	}
	for my $s ($lease ? @quorum : ())
	{
		sql($s, 'ALTER SYSTEM RESET quorum.leader_lease');
		sql($s, 'SELECT pg_reload_conf()');
	}
}
kill 'TERM', $writers if $writers;
run('pg_ctl', '-D', $_->{data}, '-m', 'fast', '-w', 'stop') for @quorum, $plain;
