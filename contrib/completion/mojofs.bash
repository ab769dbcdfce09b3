# SPDX-License-Identifier: MIT
# Completion of mojofs for bash. Installed as "mojofs" where bash-completion looks, it is loaded when it
# is first needed; or: source mojofs.bash
# It works with bash alone; bash-completion is not needed.

# Complete the path $2 of a file or directory in the store or mount $1. A mount holds the files themselves;
# of a store that is not mounted, mojofs has to say which there are.
__mojofs_files() {
	local root=${1%/} word=$2 directory= name

	[[ -d $root ]] || return
	if [[ -e $root/mojo.state ]]; then
		[[ $word != */* ]] || directory=${word%/*}
		while IFS= read -r name; do
			[[ $name != "$word"* ]] || COMPREPLY+=("$name")
		done < <("${COMP_WORDS[0]}" ls --utc "$root" "/$directory" 2>/dev/null |
			sed -n 's/^ *[-0-9]\{1,\}  *[-0-9]\{1,\}  *[-0-9]\{1,\}  [-0-9]* [:0-9]*Z  //p')
	else
		while IFS= read -r name; do
			[[ ! -d $name ]] || name+=/
			COMPREPLY+=("${name#"$root/"}")
		done < <(compgen -f -- "$root/$word")
	fi
	[[ ${COMPREPLY[0]-} != */ ]] || compopt -o nospace
}

# The version numbers of the store or mount $1.
__mojofs_versions() {
	"${COMP_WORDS[0]}" versions "$1" 2>/dev/null | sed -n 's/^[* ] *\([0-9][0-9]*\) .*/\1/p'
}

_mojofs() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local commands="create state versions commit ls map check"
	local common="--json --help --usage" options=
	local command= path= i positional=0 valued

	COMPREPLY=()
	# "=" is a word of its own here: put "--limit = 5" together again.
	if [[ $word == = ]]; then
		word=
	elif [[ $before == = && $COMP_CWORD -ge 2 ]]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi

	# Which command, and how many of its arguments are there before this one?
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-m | --message | -V | -p | --pages | --page | --from | --limit | --rate | --wait | --page-size | --pages-per-slot | --chunk-size)
			[[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
			((i++))
			;;
		--version)
			# Has a value in ls and map; before a command it is the program's.
			if [[ -n $command ]]; then
				[[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
				((i++))
			fi
			;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=${COMP_WORDS[i]}
			else
				((positional++))
				[[ -n $path ]] || path=${COMP_WORDS[i]}
			fi
			;;
		esac
	done

	if [[ -z $command ]]; then
		if [[ $word == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "--version --help --usage" -- "$word")
		else
			mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
		fi
		return
	fi

	valued=yes
	case $before in
	--page-size) mapfile -t COMPREPLY < <(compgen -W "4K 8K 16K 32K 64K" -- "$word") ;;
	--chunk-size) mapfile -t COMPREPLY < <(compgen -W "4M 8M 16M 32M 64M 128M 256M 512M 1G" -- "$word") ;;
	--pages-per-slot) mapfile -t COMPREPLY < <(compgen -W "64 128 256 512 1K 2K 4K 8K 16K 32K 64K" -- "$word") ;;
	-V | --version | --from)
		[[ -n $path ]] && mapfile -t COMPREPLY < <(compgen -W "$(__mojofs_versions "$path")" -- "$word")
		;;
	--rate) mapfile -t COMPREPLY < <(compgen -W "8M 32M 128M 1G" -- "$word") ;;
	-m | --message | -p | --page | --pages | --limit | --wait) ;;
	*) valued= ;;
	esac
	[[ -z $valued ]] || return

	if [[ $word == -* ]]; then
		case $command in
		create) options="--page-size= --pages-per-slot= --chunk-size=" ;;
		state) options="--utc" ;;
		versions) options="--from= --limit= --utc" ;;
		commit) options="--message= --wait= --verify" ;;
		ls) options="--version= --long --recursive --utc" ;;
		map) options="--version= --pages= --page= --summary --dump" ;;
		check) options="--scrub --repair --dry-run --rate=" ;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$word")
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
		return
	fi

	case $command:$positional in
	create:0)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		;;
	state:0 | versions:0 | commit:0 | ls:0 | map:0 | check:0)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		;;
	ls:1 | map:1)
		__mojofs_files "$path" "$word"
		;;
	esac
}

complete -F _mojofs mojofs
