# join.pl DIR - what join.sh starts.
use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC);

my $dir = shift or die "usage: join.pl DIR\n";
my $seconds = $ENV{SECONDS_EACH};
my $megabytes = $ENV{SIZE_MB};
my @workers = split ' ', $ENV{WORKERS};
my $clients = $ENV{CLIENTS};
my $wide = $ENV{WIDE_MB};
my $TABLES = 4;

sub now { return clock_gettime(CLOCK_MONOTONIC); }

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

sub free_port
{
	return IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')->sockport;
}

sub make_server
{
	my ($name, $text) = @_;
	my $server = { name => $name, port => free_port(), raft => free_port(), data => "$dir/$name" };

	run('initdb', '-A', 'trust', '-N', '-D', $server->{data}, '--no-locale', '--encoding=UTF8');
	open my $conf, '>>', "$server->{data}/postgresql.conf" or die $!;
	print $conf "port = $server->{port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '$dir'\n"
	  . "max_connections = 60\nmax_worker_processes = 16\nshared_buffers = '128MB'\nmax_wal_size = '4GB'\n"
	  . "shared_preload_libraries = 'pg_quorum'\nquorum.node_name = '$name'\n"
	  . "quorum.address = '127.0.0.1:$server->{raft}'\nquorum.max_transaction_size = '1000MB'\n" . ($text // '');
	close $conf;
	run('pg_ctl', '-D', $server->{data}, '-l', "$server->{data}.log", '-w', 'start');
	sql($server, 'CREATE EXTENSION pg_quorum');
	return $server;
}

# pgbench on all members for so long, or until it is stopped; committed a second
sub start_load
{
	my (@members) = @_;
	my @pids;

	for my $m (@members)
	{
		my $n = POSIX::floor($clients / @members) or next;
		my $pid = fork // die $!;
		if ($pid == 0)
		{
			open STDOUT, '>>', "$dir/pgbench.log";
			open STDERR, '>>', "$dir/pgbench.log";
			exec 'pgbench', '-n', '-c', $n, '-T', 36000, '--max-tries=10', '-f', "$dir/write.sql",
			  '-h', $dir, '-p', $m->{port}, 'postgres';
		}
		push @pids, $pid;
	}
	return @pids;
}

sub committed
{
	return sql($_[0], q(SELECT coalesce(sum(commits), 0) FROM quorum.stat_replication));
}

sub throughput
{
	my ($code, @members) = @_;
	my %before = map { $_->{name} => committed($_) } @members;
	my $begun = now();
	my $result = $code->();
	my $took = now() - $begun;
	my $sum = 0;

	$sum += committed($_) - $before{ $_->{name} } for @members;
	return ($sum / $took, $took, $result);
}

# of all processes in a server's directory, the largest private memory seen, MB
sub peak_memory
{
	my (@servers) = @_;
	my $peak = 0;

	for my $proc (glob '/proc/[0-9]*')
	{
		my $cwd = readlink("$proc/cwd") // next;
		next unless grep { $cwd eq $_->{data} } @servers;
		open my $status, '<', "$proc/status" or next;
		my %kb = map { /^(Rss(?:Anon)):\s+(\d+) kB/ ? ($1 => $2) : () } <$status>;
		$peak = $kb{RssAnon} if ($kb{RssAnon} // 0) > $peak;
	}
	return $peak / 1024;
}

my @members = map { make_server("n$_") } 1 .. 3;
sql($members[0], 'SELECT quorum.create_cluster()');
sql($_, "SELECT quorum.join_cluster('127.0.0.1:$members[0]{raft}')") for @members[ 1, 2 ];
for my $m (@members)
{
	sql($m, "CREATE TABLE rows_$_ (id bigint PRIMARY KEY, a int, b text, c timestamptz)") for 1 .. $TABLES - 1;
	sql($m, "CREATE INDEX ON rows_1 (a)");
	sql($m, "CREATE TABLE rows_$TABLES (id bigint PRIMARY KEY, a int, b text, c timestamptz) PARTITION BY HASH (id)");
	sql($m, "CREATE TABLE rows_${TABLES}_$_ PARTITION OF rows_$TABLES FOR VALUES WITH (MODULUS 4, REMAINDER $_)") for 0 .. 3;
	sql($m, 'CREATE TABLE written (id bigserial PRIMARY KEY, a int, b text)');
}
sql($_, 'CREATE TABLE wide (id int PRIMARY KEY, body bytea); ALTER TABLE wide ALTER body SET STORAGE EXTERNAL') for $wide ? @members : ();
sql($members[0], "SELECT quorum.add_table('$_')") for ($wide ? 'wide' : ()), 'written', map { "rows_$_" } 1 .. $TABLES;
my $per_table = int($megabytes / $TABLES * 1024 * 1024 / 200);
for my $t (1 .. $TABLES)
{
	my $step = 50_000;
	for (my $from = 1; $from <= $per_table; $from += $step)
	{
		sql($members[0], sprintf q(INSERT INTO rows_%d SELECT i, i %% 1000, repeat(md5(i::text), 4), now() FROM generate_series(%d, %d) i),
			$t, $from, $from + $step - 1 > $per_table ? $per_table : $from + $step - 1);
	}
}
# one value, that does not compress
sql($members[0], "INSERT INTO wide SELECT 1, decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, $wide * 65536) i") if $wide;
open my $script, '>', "$dir/write.sql" or die $!;
print $script "INSERT INTO written (a, b) VALUES (1, 'x');\n\\set id random(1, $per_table)\nUPDATE rows_1 SET a = a + 1 WHERE id = :id;\n";
close $script;

my @load = start_load(@members);
usleep(20_000) until sql($members[0], 'SELECT count(*) > 50 FROM written') eq 't';
my ($alone) = throughput(sub { sleep $seconds }, @members);
printf "%-10s %10s %12s %10s %14s %12s %10s %10s\n", 'workers', 'GB copied', 'join, s', 's per GB', 'writes/s', 'of before',
  'new, MB', 'givers, MB';
printf "%-10s %10s %12s %10s %14.0f %11.0f%% %10s %10.0f\n", 'before', '', '', '', $alone, 100, '', peak_memory(@members);
my $at = 3;
for my $workers (@workers)
{
	my $new = make_server('n' . ++$at, "quorum.copy_workers = $workers\n");
	my $peak = 0;
	my $givers = 0;
	my $last = now();
	my %in;
	my ($during, $took, $gb) = throughput(sub {
		my $pid = fork // die $!;
		if ($pid == 0)
		{
			sql($new, "SELECT quorum.join_cluster('127.0.0.1:$members[0]{raft}')");
			POSIX::_exit(0);
		}
		until (waitpid($pid, POSIX::WNOHANG()) == $pid)
		{
			my $mb = peak_memory($new);
			my $theirs = peak_memory(@members);
			my $phase = `psql -X -q -A -t -h $dir -p $new->{port} -d postgres -c 'SELECT phase FROM quorum.join_progress' 2>>$dir/log`;
			chomp $phase;
			$in{ $phase || 'connect' } += now() - $last;
			$last = now();
			$peak = $mb if $mb > $peak;
			$givers = $theirs if $theirs > $givers;
			usleep(50_000);
		}
		die "the join failed\n" . `tail -n 5 $dir/log` if $?;
		return sql($new, 'SELECT bytes FROM quorum.join_progress') / 1024**3;
	}, @members);
	printf "%-10s %10.2f %12.1f %10.1f %14.0f %11.0f%% %10.0f %10.0f\n", $workers, $gb, $took, $took / $gb, $during,
	  $alone > 0 ? 100 * $during / $alone : 0, $peak, $givers;
	printf "%-10s %s\n", '', join ', ', map { sprintf '%s %.1f s', $_, $in{$_} } grep { $in{$_} } qw(connect schema data indexes log done);
	my ($after) = throughput(sub { sleep $seconds }, @members);
	printf "%-10s %10s %12s %10s %14.0f %11.0f%% %10s\n", 'after', '', '', '', $after, $alone > 0 ? 100 * $after / $alone : 0, '';
	sql($new, 'SELECT quorum.leave_cluster()');
	run('pg_ctl', '-D', $new->{data}, '-m', 'immediate', 'stop');
}
kill 'TERM', @load;
waitpid $_, 0 for @load;
