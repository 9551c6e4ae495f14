# FaultRun - clients on all nodes of a cluster, faults all the while, and what
# the checkers make of the history (test/fault, doc/testing-faults.md).
#
#	my $f = FaultRun->new(nodes => 3);
#	$f->run(workload => 'append', faults => [ 'kill', 'partition' ], seconds => 20, seed => 7);
#
# run() is one test: nothing wrong in the history, everything goes on after the
# faults, all servers agree.
package FaultRun;

use strict;
use warnings;

use Carp;
use IO::Handle;
use IO::Select;
use IPC::Open2;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $DB = $QuorumCluster::DB;

my $SCHEMA = q(
	CREATE TABLE fault_list (k int PRIMARY KEY, v int[] NOT NULL);
	CREATE TABLE fault_register (k int PRIMARY KEY, v int NOT NULL);
	CREATE TABLE fault_set (k int, e int, PRIMARY KEY (k, e));
	CREATE TABLE fault_bank (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
	CREATE TABLE fault_guarded (k int PRIMARY KEY, v int[] NOT NULL);
	CREATE TABLE fault_pair (pair int, half int, balance bigint NOT NULL, PRIMARY KEY (pair, half));
	CREATE TABLE fault_job (id int PRIMARY KEY, resource text NOT NULL, token bigint NOT NULL);
	CREATE TABLE fault_filler (round int, i int, body text, PRIMARY KEY (round, i));
);
my @TABLES = qw(fault_list fault_register fault_set fault_bank fault_guarded fault_pair fault_job fault_filler);
# What the log changes beside them.
my @OWN_TABLES = qw(fault_job_fence quorum.lock_grant quorum.lock_memory quorum.lock_lease quorum.lock_loss
  quorum.election_value quorum.latch);
my $ACCOUNTS = 8;

# Which checkers judge a workload's history.
my %CHECKERS = (
	append => 'append,session,staleness',
	register => 'register',
	set => 'set',
	bank => 'bank',
	pair => 'pair',
	lock => 'lock',
	lease => 'lock',
	election => 'lock,election,latch',
);

# SQLSTATEs that a client may meet under faults. Whatever else comes is a defect.
my $EXPECTED = qr/^(?:40001|40003|40P01|55000|55P03|57014|57P0[123]|25P02|23514|08\w{3}|lost|Q0001)$/;

# There are leases that end while they are used.
my %EXPECTED_TOO = (lease => '22023', election => '22023');

# Those of a run that names none; lease and election by name.
sub workloads
{
	return qw(append register set bank pair lock);
}

sub new
{
	my ($class, %args) = @_;
	my $self = bless { tools => $ENV{PGQ_FAULT_TOOLS} // croak('PGQ_FAULT_TOOLS is not set') }, $class;
	my $c = QuorumCluster->new(nodes => $args{nodes} // 3, faults => 1,
		conf => "lock_timeout = '10s'\nquorum.max_log_size = '16MB'\nquorum.lease_timeout = '2s'\n" . ($args{conf} // '') . "\n");

	$self->{cluster} = $c;
	$self->start_links;
	$c->found;
	$c->everywhere($SCHEMA);
	$c->add_tables(@TABLES);
	$c->node(1)->safe_psql($DB,
		"INSERT INTO fault_bank SELECT g, 100 FROM generate_series(0, $ACCOUNTS - 1) g;
		INSERT INTO fault_pair SELECT g / 2, g % 2, 100 FROM generate_series(0, 5) g;
		SELECT quorum.fence_table('fault_job', 'resource', 'token')");
	$c->settle;
	return $self;
}

# --- links between the members (test/fault/links.c) ---

sub start_links
{
	my ($self) = @_;
	my $c = $self->{cluster};
	my %via;

	$self->{links_pid} = open2($self->{links_out}, $self->{links_in}, "$self->{tools}/links",
		map { $_->name . '=' . $c->raft_port($_) } $c->nodes);
	while (my $line = readline $self->{links_out})
	{
		last if $line eq "ready\n";
		my ($from, $to, $port) = $line =~ /^link (\S+) (\S+) (\d+)$/ or croak "links: $line";
		my ($target) = grep { $_->name eq $to } $c->nodes;
		push @{ $via{$from} }, $c->raft_port($target) . "=$port";
	}
	$c->{links} = { map { $_ => join ',', @{ $via{$_} } } keys %via };
}

sub link_command
{
	my ($self, $verb, $from, $to, @more) = @_;

	syswrite $self->{links_in}, join(' ', $verb, $from->name, $to->name, @more) . "\n";
	my $answer = readline $self->{links_out};
	croak 'links: ' . ($answer // 'gone') unless ($answer // '') eq "ok\n";
}

# All pairs for which the code holds.
sub links_where
{
	my ($self, $verb, $which, @more) = @_;
	my @nodes = $self->{cluster}->nodes;

	for my $from (@nodes)
	{
		for my $to (@nodes)
		{
			next if $from == $to || !$which->($from, $to);
			$self->link_command($verb, $from, $to, @more);
		}
	}
}

sub mend
{
	my ($self) = @_;

	$self->links_where('mend', sub { 1 });
}

# --- faults: each does it, and returns what undoes it ---

sub pick { return $_[ int(rand(@_)) ]; }

# The leader when one can be named quickly, else anybody.
sub leader_or_any
{
	my ($self) = @_;
	my $c = $self->{cluster};

	for my $node ($c->alive)
	{
		my $name = $c->ask($node, 'SELECT leader FROM quorum.status');
		my ($leader) = grep { $_->name eq $name } $c->alive;
		return $leader if $leader;
	}
	return pick($c->alive);
}

sub worker
{
	my ($self, $node, $which) = @_;

	for my $pid ($self->{cluster}->pids($node))
	{
		open my $in, '<', "/proc/$pid/cmdline" or next;
		return $pid if (readline($in) // '') =~ /pg_quorum $which worker/;
	}
	return undef;
}

# Backends of the clients, and not those of the test itself.
sub client_backends
{
	my ($self, $node) = @_;
	my @pids;

	for my $pid ($self->{cluster}->pids($node))
	{
		open my $in, '<', "/proc/$pid/cmdline" or next;
		push @pids, $pid if (readline($in) // '') =~ /\[local\]/;
	}
	return @pids;
}

sub signal_clients
{
	my ($self, $signal) = @_;
	my $node = pick($self->{cluster}->nodes);

	for (1 .. 5)
	{
		my $pid = pick($self->client_backends($node));
		kill $signal, $pid if $pid;
		usleep(30_000);
	}
	return sub { };
}

sub kill_some
{
	my ($self, @victims) = @_;
	my $c = $self->{cluster};

	$c->kill9(@victims);
	return sub { $c->restart(@victims) };
}

sub pause_some
{
	my ($self, @victims) = @_;
	my $c = $self->{cluster};

	$c->pause($_) for @victims;
	return sub { $c->resume($_) for @victims };
}

sub cut_off
{
	my ($self, $verb, @victims) = @_;
	my %out = map { $_->name => 1 } @victims;

	$self->links_where($verb, sub { !$out{ $_[0]->name } != !$out{ $_[1]->name } });
	return sub { $self->mend };
}

# A majority for everybody, and no two see the same one: neighbours in a ring.
# With three, one in the middle.
sub cut_ring
{
	my ($self, $verb) = @_;
	my @nodes = sort { rand() <=> 0.5 } $self->{cluster}->nodes;
	my %place = map { $nodes[$_]->name => $_ } 0 .. $#nodes;
	my $reach = @nodes > 3 ? int(@nodes / 4) || 1 : 1;

	$self->links_where($verb, sub {
		my $apart = abs($place{ $_[0]->name } - $place{ $_[1]->name });
		$apart = @nodes - $apart if @nodes > 3 && $apart > @nodes / 2;
		return $apart > $reach;
	});
	return sub { $self->mend };
}

sub set_clocks
{
	my ($self, $range_us) = @_;
	my $c = $self->{cluster};
	my $node = pick($c->nodes);

	$c->fault($node, clock => int((rand(2) - 1) * $range_us));
	return sub { $c->no_fault($node, 'clock') };
}

# While a member is away the log moves on further than it is kept: it gets an image.
sub leave_behind
{
	my ($self) = @_;
	my $c = $self->{cluster};
	my $victim = pick($c->nodes);
	my $near = pick($c->others($victim));
	my $undo = rand() < 0.5 ? $self->kill_some($victim) : $self->cut_off('refuse', $victim);

	for (1 .. 26)
	{
		my $round = ++$self->{filled};
		# no majority now: the log does not move on, and need not
		last unless $c->ask($near, "INSERT INTO fault_filler SELECT $round, i, repeat(md5((i * $round)::text), 32)
			FROM generate_series(1, 1024) i RETURNING 1");
	}
	$c->ask($near, 'DELETE FROM fault_filler');
	return $undo;
}

# A change of the schema, from any node, while everybody writes.
sub change_schema
{
	my ($self) = @_;
	my $table = pick(grep { !/filler/ } @TABLES);
	my $sql = pick(
		"ALTER TABLE $table ADD COLUMN IF NOT EXISTS more int DEFAULT 7",
		"ALTER TABLE $table DROP COLUMN IF EXISTS more",
		"CREATE INDEX IF NOT EXISTS ${table}_more ON $table (more)",
		'CREATE INDEX IF NOT EXISTS fault_set_e ON fault_set (e)',
		'DROP INDEX IF EXISTS fault_set_e');

	$self->{cluster}->ask(pick($self->{cluster}->alive), $sql);
	return sub { };
}

my %FAULTS = (
	image => sub { $_[0]->leave_behind },
	schema => sub { $_[0]->change_schema },
	kill => sub { $_[0]->kill_some(pick($_[0]{cluster}->nodes)) },
	'kill-leader' => sub { $_[0]->kill_some($_[0]->leader_or_any) },
	'kill-all' => sub { $_[0]->kill_some($_[0]{cluster}->nodes) },
	crash => sub {
		my ($self) = @_;
		my $node = pick($self->{cluster}->nodes);
		my $pid = rand() < 0.3 ? pick($self->client_backends($node)) :
		  $self->worker($node, pick('raft', 'apply'));
		kill 'KILL', $pid if $pid;
		return sub { };
	},
	terminate => sub { $_[0]->signal_clients('TERM') },
	cancel => sub { $_[0]->signal_clients('INT') },
	# no space for the log; then a disk that fails, after which only a restart helps
	full => sub {
		my ($self) = @_;
		my $node = rand() < 0.5 ? $self->leader_or_any : pick($self->{cluster}->nodes);
		$self->{cluster}->fault($node, 'full');
		return sub { $self->{cluster}->no_fault($node, 'full') };
	},
	eio => sub {
		my ($self) = @_;
		my $c = $self->{cluster};
		my $node = rand() < 0.5 ? $self->leader_or_any : pick($c->nodes);
		$c->fault($node, 'eio');
		return sub {
			$c->kill9($node);
			$c->no_fault($node, 'eio');
			$c->restart($node);
		};
	},
	restart => sub {
		my ($self) = @_;
		my $node = pick($self->{cluster}->nodes);
		$node->stop('fast', fail_ok => 1) or $self->{cluster}->kill9($node);
		return sub { $self->{cluster}->restart($node) };
	},
	pause => sub { $_[0]->pause_some(pick($_[0]{cluster}->nodes)) },
	'pause-leader' => sub { $_[0]->pause_some($_[0]->leader_or_any) },
	# for longer than anybody waits for it
	'pause-raft' => sub {
		my ($self) = @_;
		my $node = $self->leader_or_any;
		my $pid = $self->worker($node, 'raft');
		kill 'STOP', $pid if $pid;
		usleep(2_000_000 + int(rand(2_000_000)));
		return sub { kill 'CONT', $pid if $pid };
	},
	'pause-worker' => sub {
		my ($self) = @_;
		my $pid = $self->worker(pick($self->{cluster}->nodes), pick('raft', 'apply'));
		kill 'STOP', $pid if $pid;
		return sub { kill 'CONT', $pid if $pid };
	},
	transfer => sub {
		my ($self) = @_;
		my ($from, $to) = map { pick($self->{cluster}->alive) } 1 .. 2;
		$self->{cluster}->ask($from, sprintf "SELECT quorum.transfer_leadership('%s')", $to->name);
		return sub { };
	},
	isolate => sub { $_[0]->cut_off(pick('cut', 'refuse'), pick($_[0]{cluster}->nodes)) },
	'isolate-leader' => sub { $_[0]->cut_off(pick('cut', 'refuse'), $_[0]->leader_or_any) },
	halves => sub {
		my ($self) = @_;
		my @nodes = sort { rand() <=> 0.5 } $self->{cluster}->nodes;
		$self->cut_off(pick('cut', 'refuse'), @nodes[ 0 .. int($#nodes / 2) ]);
	},
	# nobody hears the victim, or it hears nobody, or one link fails one way
	'one-way' => sub {
		my ($self) = @_;
		my ($way, $a) = (int(rand(3)), $self->leader_or_any);
		my $b = pick($self->{cluster}->others($a));
		$self->links_where(pick('cut', 'refuse'), sub {
			return $way == 0 ? $_[0] == $a : $way == 1 ? $_[1] == $a : $_[0] == $a && $_[1] == $b;
		});
		return sub { $self->mend };
	},
	ring => sub { $_[0]->cut_ring(pick('cut', 'refuse')) },
	silence => sub {
		my ($self) = @_;
		$self->links_where('cut', sub { 1 });
		return sub { $self->mend };
	},
	reset => sub {
		my ($self) = @_;
		$self->links_where('reset', sub { rand() < 0.7 });
		return sub { };
	},
	slow => sub {
		my ($self) = @_;
		my $ms = pick(5, 40, 200);
		$self->links_where('slow', sub { rand() < 0.7 }, $ms);
		return sub { $self->mend };
	},
	clock => sub { $_[0]->set_clocks(300_000) },
	'clock-far' => sub { $_[0]->set_clocks(20_000_000) },
);

# Those that leave all processes as they are.
my %OF_LINKS = map { $_ => 1 } qw(isolate isolate-leader halves one-way ring silence reset slow);

# Names that stand for several.
my %GROUPS = (
	none => [],
	crashes => [qw(kill kill-leader kill-all crash restart eio)],
	disks => [qw(full eio)],
	pauses => [qw(pause pause-leader pause-worker pause-raft)],
	partitions => [qw(isolate isolate-leader halves one-way ring silence reset)],
	clocks => [qw(clock clock-far)],
);
$GROUPS{all} = [ sort grep { !/^(?:clock-far|image)$/ } keys %FAULTS ];

sub faults_named
{
	my ($self, @names) = @_;

	return map {
		$GROUPS{$_} ? @{ $GROUPS{$_} } : $FAULTS{$_} ? $_
		  : croak "no fault $_; there are " . join ' ', sort(keys %FAULTS, keys %GROUPS)
	} @names;
}

sub now_us { return int(QuorumCluster::now() * 1e6); }

sub note_fault
{
	my ($self, $what) = @_;

	push @{ $self->{events} }, [ now_us(), $what ];
}

# Random faults until the time is over; all is whole again in the end. Often two
# at once: then one of them is of the network, and the other one of any kind.
sub torment
{
	my ($self, $until, @names) = @_;
	my @links = grep { $OF_LINKS{$_} } @names;

	while (QuorumCluster::now() < $until)
	{
		if (!@names)
		{
			usleep(100_000);
			next;
		}
		my @now = (@links && rand() < 0.4 ? pick(@links) : (), pick(@names));
		my @undo;
		$self->note_fault("@now begins");
		for my $name (@now)
		{
			unshift @undo, $FAULTS{$name}->($self);
			usleep(int(rand(400_000))) if @now > 1;
		}
		usleep(int(rand() < 0.3 ? rand(4_000_000) : rand(1_500_000)));
		$self->note_fault("@now ends");
		# what is first is not always what was last
		@undo = reverse @undo if rand() < 0.5;
		$_->() for @undo;
		$self->note_fault("@now undone");
		usleep(int(rand() < 0.3 ? rand(50_000) : rand(1_200_000)));
	}
}

# --- one run ---

# A line of the client, or undef past the bound.
sub client_says
{
	my ($self, $client, $bound_s) = @_;
	my $end = QuorumCluster::now() + $bound_s;

	while ($client->{buffer} !~ /\n/)
	{
		my $left = $end - QuorumCluster::now();
		return undef if $left <= 0 || !IO::Select->new($client->{out})->can_read($left);
		return undef unless sysread $client->{out}, $client->{buffer}, 65536, length $client->{buffer};
	}
	$client->{buffer} =~ s/^(.*)\n//;
	return $1;
}

sub levels
{
	my ($self, $workload) = @_;

	return 'eventual' unless $self->{has_levels} //= $self->{cluster}->ask($self->{cluster}->node(1),
		"SELECT count(*) FROM pg_settings WHERE name = 'quorum.read_consistency'");
	return $workload eq 'register' ? 'strong' : 'eventual,bounded,ryw,causal,strong';
}

# Seconds between two times in which no fault was at work.
sub calm_us
{
	my ($self, $from, $to) = @_;
	my $calm = $to - $from;

	for my $fault (@{ $self->{active} })
	{
		my ($begin, $end) = @$fault;
		$begin = $from if $begin < $from;
		$end = $to if $end > $to;
		$calm -= $end - $begin if $end > $begin;
	}
	return $calm;
}

# What a history comes to: counts, and the longest time without success by node,
# and without success or fault.
sub summary
{
	my ($self, $file, $begin_us, $end_us) = @_;
	my (%count, %last, %gap, %calm, %nodes, @done, $open);

	$self->{active} = [];
	for my $event (@{ $self->{events} })
	{
		$open = $event->[0] if $event->[1] =~ /begins/;
		push @{ $self->{active} }, [ $open, $event->[0] ] if $event->[1] =~ /undone/;
	}
	$count{$_} = 0 for qw(ok fail info);
	open my $in, '<', $file or croak "$file: $!";
	while (my $line = <$in>)
	{
		my (undef, undef, $node, undef, $end, $outcome, $level) = split ' ', $line;
		next if $level =~ /^final/;
		$count{$outcome}++;
		push @done, [ $end, $node ] if $outcome eq 'ok';
		$nodes{$node} = 1;
	}
	close $in;
	for my $at ((sort { $a->[0] <=> $b->[0] } @done), map { [ $end_us, $_ ] } keys %nodes)
	{
		for my $who ($at->[1], 'anywhere')
		{
			my $since = $last{$who} // $begin_us;
			my $gap = $at->[0] - $since;
			$gap{$who} = $gap if $gap > ($gap{$who} // 0);
			$last{$who} = $at->[0];
			next if $gap <= ($calm{$who}[0] // 0);
			my $calm = $self->calm_us($since, $at->[0]);
			$calm{$who} = [ $calm, $since - $begin_us ] if $calm > ($calm{$who}[0] // 0);
		}
	}
	my $gaps = join ', ', map { sprintf '%s %.1f s, calm %.1f s (from %.1f s on)', $_, $gap{$_} / 1e6,
		($calm{$_}[0] // 0) / 1e6, ($calm{$_}[1] // 0) / 1e6 } sort keys %gap;
	return "$count{ok} ok, $count{fail} failed, $count{info} unknown; longest without success: $gaps";
}

# The clients have gone: nothing is held any more, no lease is open.
sub locks_left
{
	my ($self) = @_;
	my $c = $self->{cluster};

	for my $node ($c->nodes)
	{
		my $left;
		QuorumCluster::poll(sub {
			$left = $c->ask($node, q(SELECT (SELECT count(*) FROM quorum.locks) + (SELECT count(*) FROM quorum.leases)));
			return $left eq '0';
		}, 60) or return $node->name . " shows $left locks and leases that nobody has";
	}
	return ();
}

# workload => name; faults => [...]; seconds => n; seed => n; clients => n;
# levels => 'strong,...'. One test.
sub run
{
	my ($self, %args) = @_;
	my $c = $self->{cluster};
	my $workload = $args{workload};
	my $seed = $args{seed} // int(rand(2**31));
	my @faults = $self->faults_named(@{ $args{faults} // ['all'] });
	my $runs = ++$self->{runs};
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$workload-$runs.hist";
	my $what = sprintf '%s under %s', $workload, join ' ', @{ $args{faults} // ['all'] };
	my @wrong;
	my %client = (buffer => '');

	srand($seed);
	$self->{events} = [];
	# a later run numbers its keys anew
	$c->node(1)->safe_psql($DB, join ';', map { "DELETE FROM $_" } grep { !/bank|pair/ } @TABLES);
	$c->settle;
	# a server that is killed may show for a while what it showed before
	my $forgets = grep { /kill|crash|eio|image/ } @faults;
	$client{pid} = open2($client{out}, $client{in}, "$self->{tools}/client", '-w', $workload, '-o', $file,
		$forgets ? () : '-a', $args{lie} ? '-e' : (),
		'-c', $args{clients} // 2 * (my @n = $c->nodes), '-s', $seed,
		'-l', $args{levels} // $self->levels($workload),
		map { $_->name . '=' . $_->connstr($DB) } $c->nodes);
	my $begin_us = now_us();
	$self->torment(QuorumCluster::now() + $args{seconds}, @faults);
	my $healed_us = now_us();
	$self->mend;
	$c->wait_for_leader;
	# everything is whole: each node answers again before the clients end
	usleep(300_000);
	my $end_us = now_us();
	syswrite $client{in}, "stop\n";
	push @wrong, 'the clients do not end' if ($self->client_says(\%client, 60) // '') ne 'stopped';
	$c->settle;
	syswrite $client{in}, "final\n";
	my %states;
	while (defined(my $line = $self->client_says(\%client, 60)))
	{
		last if $line eq 'done';
		my ($state, $count, $text) = $line =~ /^state (\S+) (\d+) ?(.*)$/ or next;
		$states{$state} = $count;
		push @wrong, "SQLSTATE $state: $text"
		  if $state !~ $EXPECTED && $state ne ($EXPECTED_TOO{$workload} // '');
	}
	close $client{in};
	waitpid $client{pid}, 0;
	push @wrong, 'no final read of all nodes' if $?;
	push @wrong, $self->locks_left;

	my @check = ("$self->{tools}/check", '-t', 100 * $ACCOUNTS, $CHECKERS{$workload}, $file);
	my $verdict = `@check 2>&1`;
	push @wrong, split /\n/, $verdict if $?;

	open my $out, '>', "$file.faults" or croak "$file.faults: $!";
	printf $out "%d %.3f %s\n", $_->[0], ($_->[0] - $begin_us) / 1e6, $_->[1] for @{ $self->{events} };
	close $out;
	my %seen;
	$seen{$_}++ for map { $_->[1] =~ /^(.*) begins/ ? split(' ', $1) : () } @{ $self->{events} };
	diag("$what, seed $seed: " . $self->summary($file, $begin_us, $end_us));
	diag('    faults: ' . join(', ', map { "$_ $seen{$_}" } sort keys %seen)) if %seen;
	diag('    errors: ' . join(', ', map { "$_ $states{$_}" } sort keys %states)) if %states;
	for my $node ($c->nodes)
	{
		my @lines = grep { /PANIC|TRAP:|was terminated by signal (?:6|7|8|11)\b/ }
		  split /\n/, slurp_file($node->logfile);
		push @wrong, $node->name . " logged: $lines[0]" if @lines > ($self->{logged}{ $node->name } // 0);
		$self->{logged}{ $node->name } = @lines;
	}
	ok(!@wrong, "$what: nothing wrong (seed $seed)")
	  or diag(join "\n", @wrong[ 0 .. ($#wrong > 80 ? 80 : $#wrong) ], "the history: $file");
	$c->settle;
	$c->tables_equal([ @TABLES, @OWN_TABLES ], "$what: all servers agree");
	return !@wrong;
}

sub finish
{
	my ($self) = @_;

	close $self->{links_in};
	waitpid $self->{links_pid}, 0;
}

1;
