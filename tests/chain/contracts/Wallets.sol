// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// Smart wallets that pay, honest and hostile. `owner` is storage slot 0: the rig writes it after placing the code.

abstract contract Owned {
    address public owner;

    bytes4 internal constant VALID = 0x1626ba7e;

    function _signer(bytes32 hash, bytes memory signature) internal pure returns (address) {
        if (signature.length != 65) return address(0);
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
            v := byte(0, mload(add(signature, 96)))
        }
        return ecrecover(hash, v, r, s);
    }
}

/// The plain kind: its owner signs what the token asks for.
contract Wallet is Owned {
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        return _signer(hash, signature) == owner ? VALID : bytes4(0xffffffff);
    }

    function execute(address target, bytes calldata data) external {
        require(msg.sender == owner, "not the owner");
        (bool ok, ) = target.call(data);
        require(ok, "call failed");
    }
}

/// The kind that wraps: (owner index, signature data), over a hash bound to the wallet itself.
contract WrappingWallet is Owned {
    function boundHash(bytes32 hash) public view returns (bytes32) {
        return keccak256(abi.encode("bound", block.chainid, address(this), hash));
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (uint256 index, bytes memory inner) = abi.decode(signature, (uint256, bytes));
        return index == 0 && _signer(boundHash(hash), inner) == owner ? VALID : bytes4(0xffffffff);
    }
}

/// Burns all the gas it is given.
contract LoopingWallet {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        while (true) {}
        return 0x1626ba7e;
    }
}

/// Answers with a megabyte.
contract FloodingWallet {
    function isValidSignature(bytes32, bytes calldata) external pure {
        assembly {
            mstore(0, 0x1626ba7e00000000000000000000000000000000000000000000000000000000)
            return(0, 1048576)
        }
    }
}

/// Says yes until somebody turns it, which may be just before the payment in the same block.
contract FickleWallet is Owned {
    bool public refuses;

    function turn(bool to) external {
        refuses = to;
    }

    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        return refuses ? bytes4(0xffffffff) : bytes4(0x1626ba7e);
    }
}

/// What an EIP-7702 account may point at: the account's own key signs, everything else is burned gas.
contract Delegate {
    bytes32 private constant GREEDY = keccak256("greedy");

    function turnGreedy() external {
        bytes32 slot = GREEDY;
        assembly {
            sstore(slot, 1)
        }
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        bytes32 slot = GREEDY;
        uint256 greedy;
        assembly {
            greedy := sload(slot)
        }
        while (greedy == 1) {}
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        return ecrecover(hash, uint8(signature[64]), r, s) == address(this) ? bytes4(0x1626ba7e) : bytes4(0xffffffff);
    }
}
